import {
  type CheckpointStore,
  checkpoint,
  FileCheckpoints,
  KafkaCheckpoints,
  memoryTransport,
  Parameters,
  sgd,
  type TrainPartitionsOptions,
  type Transport,
  trainPartitions,
  type WeightsUpdate,
} from 'rxgrad';
import { concatMap, EMPTY, lastValueFrom, map, mergeMap, type Observable, pipe, take, tap, throwError, toArray } from 'rxjs';
import { expect, it, onTestFinished, vi } from 'vitest';
import { RxgradError } from '../../src/errors.ts';
import type { TrainingEvent } from '../../src/events.ts';
import { eventually } from '../eventually.ts';
import { batches, bitsOf, checkpointOf, folders, model, topic, train, warningsOf } from './courses.ts';
import { owned } from './owned.ts';

const place = folders();

/** Two partitions with five batches each, of other workers. */
async function logOf(): Promise<Transport> {
  const transport = memoryTransport();
  await transport.createTopic(topic, { partitions: 2 });
  for (const partition of [0, 1]) {
    await transport.produce(
      topic,
      batches('x'.repeat(partition + 1), 5).map((record) => ({ ...record, partition })),
    );
  }
  return transport;
}

function setUp(transport: Transport, own: Partial<TrainPartitionsOptions> = {}) {
  const stores = [place(), place()].map((folder) => new FileCheckpoints(folder));
  const trained: Parameters[] = [];
  const options: TrainPartitionsOptions = {
    topic,
    group: 'trainers',
    params: model,
    store: (partition) => stores[partition]!,
    train({ params, partition }) {
      trained[partition] = params;
      return sgd(params, { lr: 0.1 });
    },
    ...own,
  };
  return { stores, trained, options, updates$: trainPartitions(transport, options) };
}

/** Subscribes until the test has finished. */
function following(updates$: Observable<WeightsUpdate>) {
  const updates: WeightsUpdate[] = [];
  const errors: unknown[] = [];
  const subscription = updates$.subscribe({ next: (update) => updates.push(update), error: (error) => errors.push(error) });
  onTestFinished(() => subscription.unsubscribe());
  return { updates, errors, subscription };
}

it('trains each partition as if there were no other, from its own checkpoint', async () => {
  const transport = await logOf();
  const folders = [place(), place()];
  const stores = folders.map((folder) => new FileCheckpoints(folder));
  const { trained, updates$ } = setUp(transport, { store: (partition) => new FileCheckpoints(folders[partition]!) });
  // Of the second partition, two batches are contained already.
  const before = model();
  await train(transport, stores[1]!, 2, { partitions: [1] });
  for (const { version } of await stores[1]!.list()) if (version !== 2) await stores[1]!.remove(version);
  before.loadStateDict(await stores[1]!.read(2));
  const updates = await lastValueFrom(updates$.pipe(take(8), toArray()));
  const offsets = (partition: number) =>
    updates.flatMap(({ position }) => (position!.partition === partition ? [position!.offset] : []));
  expect([offsets(0), offsets(1)]).toEqual([
    [0, 1, 2, 3, 4],
    [2, 3, 4],
  ]);
  for (const partition of [0, 1]) {
    const alone = await train(transport, new FileCheckpoints(place()), 100, { partitions: [partition] });
    expect(bitsOf(trained[partition]!)).toEqual(bitsOf(alone));
  }
  // The stores were taken over as their partitions were given to this member.
  await expect(stores[1]!.confirmOwner()).rejects.toMatchObject({ key: 'fenced' });
});

it.each([
  [{ maxInFlight: 2 }, 2],
  [{ maxBytes: 1 }, 1],
])('hands out no more than %o at a time', async (limits, expected) => {
  const seen: TrainingEvent[] = [];
  const never = pipe(
    tap((event: TrainingEvent) => void seen.push(event)),
    mergeMap(() => EMPTY),
  );
  const { updates$ } = setUp(await logOf(), { ...limits, train: () => never });
  following(updates$);
  await eventually(() => expect(seen).toHaveLength(2 * expected));
  for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
  expect(seen).toHaveLength(2 * expected);
});

/** Stores of both partitions in a topic, under transactional ids. */
function inTopic(transport: Transport, partition: number): KafkaCheckpoints {
  return new KafkaCheckpoints(transport, {
    topic: 'checkpoints',
    model: `model-${partition}`,
    transactionalId: `trainer-${partition}`,
  });
}

it('trains a partition on that another writer has fenced, from the newest checkpoint', async () => {
  const transport = await logOf();
  let fencings = 0;
  const { updates$ } = setUp(transport, {
    store: (partition) => inTopic(transport, partition),
    train: ({ params, store, partition }) =>
      pipe(
        sgd(params, { lr: 0.1 }),
        concatMap(async (update) => {
          // As a member does that woke in the middle of taking the partition over.
          if (partition === 0 && update.version === 3 && fencings++ === 0) await transport.writer('trainer-0');
          return update;
        }),
        checkpoint(store, { everySteps: 1 }),
      ),
  });
  const warned = await warningsOf(async () => {
    const { errors, subscription } = following(updates$);
    const newest = async (partition: number) => (await inTopic(transport, partition).list())[0]?.version;
    await eventually(async () => expect([await newest(0), await newest(1)]).toEqual([5, 5]));
    expect(errors).toEqual([]);
    subscription.unsubscribe();
  });
  expect(warned).toEqual([
    {
      code: 'RXGRAD_PARTITION_FENCED',
      message: expect.stringMatching(/^gradients\/0 is given back: .*another writer "trainer-0"/),
    },
  ]);
  // Each comes to what it would have come to alone.
  for (const partition of [0, 1]) {
    const alone = await train(transport, await owned(new FileCheckpoints(place())), 100, { partitions: [partition] });
    const kept = Parameters.fromStateDict(await inTopic(transport, partition).read(5));
    expect(bitsOf(kept)).toEqual(bitsOf(alone));
  }
});

it('prepares a partition anew where another member takes it over in the middle of that', async () => {
  const transport = await logOf();
  let prepared = 0;
  const { updates$ } = setUp(transport, {
    store: (partition) => {
      const store = inTopic(transport, partition);
      const write = store.write.bind(store);
      // The first checkpoint is written when the store was taken over.
      store.write = async (version, file) => {
        if (partition === 0 && prepared++ === 0) await transport.writer('trainer-0');
        return write(version, file);
      };
      return store;
    },
  });
  const { updates, errors } = following(updates$);
  await eventually(() => expect(updates).toHaveLength(10));
  expect(errors).toEqual([]);
});

it('fails where a partition is fenced again and again, since nobody would ever get further', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const pauses = vi.spyOn(globalThis, 'setTimeout');
  const transport = await logOf();
  const fenced = new RxgradError('fenced', { where: 'store', problem: 'another one writes' });
  const { stores, updates$ } = setUp(transport, {
    train: ({ params, partition }) =>
      pipe(sgd(params, { lr: 0.1 }), partition === 0 ? mergeMap(() => throwError(() => fenced)) : map((update) => update)),
  });
  const closed = stores.map((store) => vi.spyOn(store, 'close'));
  const warned = await warningsOf(async () => {
    const { errors } = following(updates$);
    while (errors.length === 0) {
      await new Promise(setImmediate);
      vi.advanceTimersToNextTimer();
    }
    expect(errors).toEqual([fenced]);
  });
  expect(warned.map(({ code }) => code)).toEqual(new Array(5).fill('RXGRAD_PARTITION_FENCED'));
  const waited = pauses.mock.calls.map(([, ms]) => ms).filter((ms) => ms !== 10_000);
  expect(waited).toEqual([0, 1000, 2000, 4000, 8000]);
  await eventually(() => expect(closed.map(({ mock }) => mock.calls.length)).toEqual([6, 6]));
});

it('fails where the training of a partition does, whether or not its store can be closed', async () => {
  const { updates$, stores } = setUp(await logOf(), {
    train: ({ params }) =>
      pipe(
        sgd(params, { lr: 0.1 }),
        mergeMap(() => throwError(() => new Error('no more'))),
      ),
  });
  for (const store of stores) store.close = () => Promise.reject(new Error('cannot be closed'));
  await expect(lastValueFrom(updates$)).rejects.toThrow('no more');
});

it('watches the retention of its topic while a partition is trained', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  onTestFinished(() => void vi.useRealTimers());
  let asked = 0;
  const log = await logOf();
  const topicSettings = async (of: string) => {
    asked += 1;
    return { ...(await log.topicSettings!(of))!, deletes: true, retentionMs: 1e12 };
  };
  const { updates$ } = setUp({ ...log, topicSettings });
  const { updates, subscription } = following(updates$);
  await eventually(() => expect(updates).toHaveLength(10));
  const before = asked;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(asked).toBe(before + 2);
  subscription.unsubscribe();
  await vi.advanceTimersByTimeAsync(600_000);
  expect(asked).toBe(before + 2);
});

it('begins with the weights that it is given, which become the first checkpoint', async () => {
  const transport = await logOf();
  const first = (partition: number) => Parameters.create({ w: { dims: [4], data: [partition, 2, 3, 4] } });
  const { stores, updates$ } = setUp(transport, { params: first });
  await lastValueFrom(updates$.pipe(take(10), toArray()));
  for (const [partition, store] of (stores as CheckpointStore[]).entries()) {
    expect(Buffer.from(await store.read(0)).byteLength).toBeGreaterThan(checkpointOf(model()).byteLength);
    expect(Parameters.fromStateDict(await store.read(0)).get('w').data[0]).toBe(partition);
  }
});
