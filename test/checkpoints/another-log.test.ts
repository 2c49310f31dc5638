import { rmSync } from 'node:fs';
import {
  blame,
  type CheckpointStore,
  checkpoint,
  embeddedLog,
  FileCheckpoints,
  fromTransport,
  memoryTransport,
  recover,
  replay,
  sgd,
  type Transport,
  trainPartitions,
} from 'rxgrad';
import { lastValueFrom, pipe, toArray } from 'rxjs';
import { describe, expect, it, type TestContext } from 'vitest';
import { movedTo, openCheckpoint } from '../../src/checkpoints/checkpoint-file.ts';
import { placeOfOffsets } from '../../src/checkpoints/place-in-log.ts';
import { changed, metadataOf, withoutLogFacts } from './changed-checkpoints.ts';
import { batches, bitsOf, folders, model, topic, train, warningsOf } from './courses.ts';

const place = folders();

async function memoryOf(worker: string, count: number): Promise<Transport> {
  const transport = memoryTransport();
  await transport.createTopic(topic);
  await transport.produce(topic, batches(worker, count));
  return transport;
}

/** One that knows no ids of topics, as Kafka before 2.8. */
function withoutIds({ describeTopic: _, ...transport }: Transport): Transport {
  return transport;
}

type Logs = [before: Transport, anew: Transport];

const kinds: [string, (context: TestContext) => Promise<Logs>, RegExp][] = [
  [
    'a log in memory',
    async () => [await memoryOf('a', 50), await memoryOf('bb', 80)],
    /gradients: .*version 50 .*\(id .*\), but .*\(id /,
  ],
  [
    'a log without ids',
    async () => [withoutIds(await memoryOf('a', 50)), withoutIds(await memoryOf('bb', 80))],
    /gradients\/0@49: .* \(a record of 20.*Z with crc32 [0-9a-f]{8}\), but .*/,
  ],
  [
    'a log whose records were lost and replaced',
    async () => {
      const [before, anew] = [await memoryOf('a', 50), await memoryOf('bb', 80)];
      const consume: Transport['consume'] = ({ topicId: _, ...options }) => anew.consume(options);
      return [before, { ...anew, consume, describeTopic: before.describeTopic!.bind(before) }];
    },
    /gradients\/0@49: /,
  ],
  [
    'a log file',
    async (context) => {
      const path = place();
      const before = embeddedLog(path);
      await before.createTopic(topic);
      await before.produce(topic, batches('a', 50));
      await before.close();
      const reopened = embeddedLog(path);
      const anew = async () => {
        for (const suffix of ['', '-wal', '-shm', '-ends']) rmSync(path + suffix, { force: true });
        const log = embeddedLog(path);
        context.onTestFinished(() => log.close());
        await log.createTopic(topic);
        await log.produce(topic, batches('bb', 80));
        return log;
      };
      let made: Promise<Transport> | null = null;
      const lazily = new Proxy({} as Transport, {
        get: (_, name) => {
          if (name === 'name') return 'anew';
          return async (...args: unknown[]) => {
            made ??= reopened.close().then(anew);
            const log = (await made) as unknown as Record<string, (...args: unknown[]) => unknown>;
            return log[String(name)]?.(...args);
          };
        },
      });
      return [reopened, lazily];
    },
    /gradients: .*version 50 .*\(id /,
  ],
];

describe.each(kinds)('%s that was made anew under the same name', (_, open, message) => {
  it('is refused, and nothing is trained on it', async (context) => {
    const [before, anew] = await open(context);
    const folder = place();
    const store = new FileCheckpoints(folder);
    const whole = bitsOf(await train(before, store, 10));
    const params = model();
    const other = new FileCheckpoints(folder);
    await expect(recover(params, other, { transport: anew, topic })).rejects.toThrow(message);
    await expect(recover(params, other, { transport: anew, topic })).rejects.toMatchObject({ key: 'otherLog' });
    expect(params.version).toBe(0);
    // Whoever trains on the right log goes on doing so.
    await expect(store.confirmOwner()).resolves.toBeUndefined();
    expect((await store.list())[0]!.version).toBe(50);
    const kept = model();
    kept.loadStateDict(await store.read(50));
    expect(bitsOf(kept)).toEqual(whole);
  });

  it('is refused where the past is rebuilt, and where partitions are trained', async (context) => {
    const [before, anew] = await open(context);
    const folder = place();
    const store = new FileCheckpoints(folder);
    await train(before, store, 10);
    const refused = { key: 'otherLog' };
    await expect(replay({ store, transport: anew, topic, to: { version: 45 } })).rejects.toMatchObject(refused);
    const measure = () => 0;
    await expect(blame({ store, transport: anew, topic, measure, good: 15, bad: 45 })).rejects.toMatchObject(refused);
    const updates$ = trainPartitions(anew, {
      topic,
      group: 'trainers',
      params: model,
      store: () => new FileCheckpoints(folder),
      train: ({ params, store: own }) => pipe(sgd(params, { lr: 0.1 }), checkpoint(own, { everySteps: 1 })),
    });
    await expect(lastValueFrom(updates$.pipe(toArray()))).rejects.toMatchObject(refused);
  });
});

describe('the same log', () => {
  async function trained(): Promise<{ transport: Transport; store: CheckpointStore }> {
    const transport = await memoryOf('a', 50);
    const store = new FileCheckpoints(place());
    await train(transport, store, 10);
    await transport.produce(topic, batches('a', 5, 50));
    return { transport, store };
  }

  it.each<[string, (transport: Transport) => Transport]>([
    ['holds the last record', (transport) => transport],
    ['has let go of all that the checkpoint contains', (transport) => ({ ...transport, startOffsets: async () => [50] })],
    ['has let go of records before', (transport) => ({ ...transport, startOffsets: async () => [49] })],
    ['cannot give single records', ({ recordAt: _, ...transport }) => transport],
    [
      'has compacted the last record away',
      (transport) => ({ ...transport, recordAt: (of, partition) => transport.recordAt!(of, partition, 50) }),
    ],
    ['has let go of it without ids', (transport) => withoutIds({ ...transport, startOffsets: async () => [50] })],
  ])('is gone on in where it %s', async (_, changed) => {
    const { transport, store } = await trained();
    const heard = await warningsOf(async () => {
      expect((await train(changed(transport), store, 10)).version).toBe(55);
    });
    expect(heard).toEqual([]);
  });

  it('is gone on in with a warning, where nothing tells that it is the same', async () => {
    const { transport, store } = await trained();
    const unknown = withoutIds({ ...transport, recordAt: (of, partition) => transport.recordAt!(of, partition, 50) });
    const heard = await warningsOf(async () => {
      expect((await train(unknown, store, 10)).version).toBe(55);
    });
    expect(heard.map(({ code }) => code)).toEqual(['RXGRAD_LOG_NOT_VERIFIED']);
  });

  it('is gone on in from a checkpoint that says nothing of its log', async () => {
    const { transport, store } = await trained();
    await store.write(50, withoutLogFacts(await store.read(50)));
    expect((await train(transport, store, 10)).version).toBe(55);
    // What came before stays unknown.
    expect(openCheckpoint(await store.read(50), '').log).toBeUndefined();
  });
});

it('a log of another name goes on from a checkpoint that was moved to it', async () => {
  const [before, anew] = [await memoryOf('a', 50), await memoryOf('bb', 80)];
  const store = new FileCheckpoints(place());
  await train(before, store, 10);
  const moved = await placeOfOffsets(anew, topic, new Map([[0, 60]]));
  await store.write(50, movedTo(await store.read(50), moved, ''));
  expect((await train(anew, store, 10)).version).toBe(70);
  await expect(recover(model(), store, { transport: before, topic })).rejects.toMatchObject({ key: 'otherLog' });
});

it('a state goes on in another log at that one’s offsets', async () => {
  const [before, anew] = [await memoryOf('a', 50), await memoryOf('bb', 20)];
  const store = new FileCheckpoints(place());
  await train(before, store, 10);
  const params = model();
  params.loadStateDict(await store.read(50));
  await lastValueFrom(fromTransport(anew, { topic, from: 'beginning', until: 'end' }).pipe(sgd(params, { lr: 0.1 })));
  const { positions } = JSON.parse(metadataOf(params.stateDict())['rxgrad.state']!) as { positions: unknown };
  expect(positions).toEqual([[topic, 0, 20]]);
});

it('a source reads no topic of another id', async () => {
  const events$ = fromTransport(await memoryOf('a', 1), { topic, topicId: 'another', until: 'end' });
  await expect(lastValueFrom(events$)).rejects.toMatchObject({ key: 'topicReplaced' });
});

it('a checkpoint of a later format is not passed over', async () => {
  const transport = await memoryOf('a', 50);
  const store = new FileCheckpoints(place());
  await train(transport, store, 10);
  await store.write(
    60,
    changed(await store.read(50), (metadata) => ({ ...metadata, 'rxgrad.format': '9' })),
  );
  const refused = {
    key: 'newerFormat',
    message: expect.stringMatching(/version 60: .*format 9, which a later version of rxgrad/),
  };
  await expect(recover(model(), store, { transport, topic })).rejects.toMatchObject(refused);
  expect((await store.list())[0]!.version).toBe(60);
});
