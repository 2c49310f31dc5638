import {
  FileCheckpoints,
  fromTransport,
  memoryTransport,
  recover,
  replay,
  sgd,
  type Transport,
  type WeightsUpdate,
} from 'rxgrad';
import { lastValueFrom, toArray } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { batches, bitsOf, folders, model, topic, train, warningsOf } from './courses.ts';

const place = folders();
const several = {
  key: 'severalPartitions',
  message: expect.stringContaining('the topic has 3. Write the gradients of one model to one'),
};

/** Three partitions of a worker each. */
async function threeLogs(): Promise<Transport> {
  const transport = memoryTransport();
  await transport.createTopic(topic, { partitions: 3 });
  for (const partition of [0, 1, 2]) {
    const records = batches('x'.repeat(partition + 1), 20).map((record) => ({ ...record, partition }));
    await transport.produce(topic, records);
  }
  return transport;
}

/** Shows only so many of its partitions, until more are added. */
function growing(transport: Transport, first: number) {
  let count = first;
  const cut = async (offsets: Promise<number[]>) => (await offsets).slice(0, count);
  const grown: Transport = {
    ...transport,
    describeTopic: async (of) => ({ ...(await transport.describeTopic!(of)), partitions: count }),
    startOffsets: (of) => cut(transport.startOffsets(of)),
    endOffsets: (of) => cut(transport.endOffsets(of)),
  };
  return {
    transport: grown,
    grow(to: number) {
      count = to;
    },
  };
}

describe('a topic with several partitions', () => {
  it('is refused for one model, before anything is read or written', async () => {
    const transport = await threeLogs();
    const store = new FileCheckpoints(place());
    await expect(recover(model(), store, { transport, topic })).rejects.toMatchObject(several);
    expect(await store.list()).toEqual([]);
    await expect(lastValueFrom(fromTransport(transport, { topic }))).rejects.toMatchObject(several);
    await expect(lastValueFrom(fromTransport(transport, { topic, group: 'g' }))).rejects.toMatchObject(several);
    const two = fromTransport(transport, { topic, partitions: [0, 2] });
    await expect(lastValueFrom(two)).rejects.toMatchObject({ key: 'severalPartitions' });
  });

  it('is read in any order where that is asked for, with a warning, and none is lost or doubled', async () => {
    const transport = await threeLogs();
    const store = new FileCheckpoints(place());
    const heard = await warningsOf(() => train(transport, store, 7, { partitions: 'any-order' }));
    expect(heard).toMatchObject([{ code: 'RXGRAD_ANY_ORDER', message: expect.stringContaining('other bits each time') }]);
    await transport.produce(topic, batches('x', 5, 20));
    expect((await train(transport, store, 7, { partitions: 'any-order' })).version).toBe(65);
    await expect(replay({ store, transport, topic, to: { version: 60 } })).rejects.toMatchObject({ key: 'severalPartitions' });
  });

  it('gives one partition, as if there were no others', async () => {
    const alone = memoryTransport();
    await alone.createTopic(topic);
    await alone.produce(topic, batches('xx', 20));
    const whole = bitsOf(await train(alone, new FileCheckpoints(place()), 100));
    const transport = await threeLogs();
    const store = new FileCheckpoints(place());
    const params = await train(transport, store, 7, { partitions: [1] });
    expect(bitsOf(params)).toEqual(whole);
    expect((await recover(model(), store, { transport, topic, partitions: [1] })).source.from).toEqual(new Map([[1, 14]]));
    expect(bitsOf(await replay({ store, transport, topic, to: { version: 14 } }))).not.toEqual(whole);
    const other = recover(model(), store, { transport, topic, partitions: [2] });
    await expect(other).rejects.toMatchObject({ key: 'invalidOption', message: expect.stringContaining('its own store') });
    const offsets: number[] = [];
    const onUpdate = ({ position }: WeightsUpdate) => void offsets.push(position!.offset);
    expect((await replay({ store, transport, topic, to: { offset: 15, partition: 1 }, onUpdate })).version).toBe(16);
    expect(offsets).toEqual([14, 15]);
    const events = fromTransport(transport, { topic, partitions: [7], until: 'end' });
    await expect(lastValueFrom(events)).rejects.toMatchObject({ key: 'invalidOption' });
  });
});

describe('partitions that are added', () => {
  it('are noticed when training goes on: refused, or read from their beginning', async () => {
    const { transport, grow } = growing(await threeLogs(), 1);
    const store = new FileCheckpoints(place());
    expect((await train(transport, store, 10, { partitions: [0] })).version).toBe(20);
    grow(3);
    await expect(recover(model(), store, { transport, topic })).rejects.toMatchObject(several);
    const heard = await warningsOf(async () => {
      expect((await train(transport, store, 10, { partitions: 'any-order' })).version).toBe(60);
    });
    expect(heard.map(({ code }) => code)).toEqual(['RXGRAD_NEW_PARTITIONS', 'RXGRAD_ANY_ORDER']);
    expect(heard[0]!.message).toContain('knows nothing of partitions 1, 2: read from offset 0');
  });

  it('are refused where their first records are gone', async () => {
    const { transport, grow } = growing(await threeLogs(), 1);
    const store = new FileCheckpoints(place());
    await train(transport, store, 10, { partitions: [0] });
    grow(3);
    const short: Transport = { ...transport, startOffsets: async () => [0, 4, 0] };
    const refused = recover(model(), store, { transport: short, topic, partitions: 'any-order' });
    await expect(refused).rejects.toMatchObject({ key: 'logTooShort', details: { where: `${topic}/1`, expected: 0, first: 4 } });
  });
});

describe('while a topic is read', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it.each([
    ['more partitions are refused within five seconds', undefined, several],
    ['another topic of its name is refused within five seconds', 'any-order' as const, { key: 'topicReplaced' }],
  ])('%s', async (_, partitions, error) => {
    const { transport, grow } = growing(await threeLogs(), 1);
    let id = 'first';
    const begun = Promise.withResolvers<void>();
    const watched: Transport = {
      ...transport,
      describeTopic: async (of) => ({ ...(await transport.describeTopic!(of)), id }),
      consume: ({ topicId: _, ...options }) => transport.consume({ ...options, onReached: () => begun.resolve() }),
    };
    const failed = lastValueFrom(fromTransport(watched, { topic, partitions }).pipe(toArray()));
    failed.catch(() => {});
    await begun.promise;
    // The watch begins in the turn after the consumption.
    await new Promise((resolve) => setImmediate(resolve));
    grow(3);
    if (partitions) id = 'second';
    await vi.advanceTimersByTimeAsync(5000);
    await expect(failed).rejects.toMatchObject(error);
  });

  it('a stage of any order is told of more partitions within five seconds', async () => {
    const { transport, grow } = growing(await threeLogs(), 1);
    const begun = Promise.withResolvers<void>();
    const watched: Transport = {
      ...transport,
      consume: (options) => transport.consume({ ...options, onReached: () => begun.resolve() }),
    };
    const heard = await warningsOf(async () => {
      const updates$ = fromTransport(watched, { topic, partitions: 'any-order' }).pipe(sgd(model(), { lr: 0.1 }));
      const subscription = updates$.subscribe();
      await begun.promise;
      await new Promise((resolve) => setImmediate(resolve));
      grow(3);
      await vi.advanceTimersByTimeAsync(5000);
      await new Promise((resolve) => setImmediate(resolve));
      subscription.unsubscribe();
    });
    expect(heard.map(({ code }) => code)).toEqual(['RXGRAD_ANY_ORDER']);
  });
});
