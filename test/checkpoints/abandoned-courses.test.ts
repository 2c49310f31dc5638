import { mkdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  FileCheckpoints,
  KafkaCheckpoints,
  memoryTransport,
  type Parameters,
  recover,
  replay,
  sgd,
  type Transport,
} from 'rxgrad';
import { describe, expect, it, vi } from 'vitest';
import { withoutLogFacts } from './changed-checkpoints.ts';
import { batches, bitsOf, folders, model, topic, train, warningsOf } from './courses.ts';
import { owned } from './owned.ts';

const place = folders();

async function log(count: number): Promise<Transport> {
  const transport = memoryTransport();
  await transport.createTopic(topic);
  await transport.produce(topic, batches('a', count));
  return transport;
}

describe.each([
  ['a folder', (_: Transport) => new FileCheckpoints(place(), { keep: 3 })],
  ['a topic', (transport: Transport) => new KafkaCheckpoints(transport, { topic: 'checkpoints', keep: 3 })],
])('checkpoints in %s', (_, open) => {
  it('of a course that training leaves are set aside, so that new ones stay', async () => {
    const transport = await log(100);
    const store = open(transport);
    const whole = bitsOf(await train(transport, store, 10));
    const versions = async () => (await store.list()).map(({ version }) => version);
    expect(await versions()).toEqual([100, 90, 80]);
    const heard = await warningsOf(() => recover(model(), store, { transport, topic, upTo: 85 }));
    expect(heard).toMatchObject([
      { code: 'RXGRAD_CHECKPOINTS_SET_ASIDE', message: expect.stringMatching(/from version 80, .* 100, 90 /) },
    ]);
    expect(await versions()).toEqual([80]);

    // Other versions than before: none is written over.
    expect(bitsOf(await train(transport, store, 7))).toEqual(whole);
    expect(await versions()).toEqual([98, 91, 84]);
    expect((await store.abandoned()).map(({ entries }) => entries.map(({ version }) => version))).toEqual([[100, 90]]);
    expect((await recover(model(), store, { transport, topic })).version).toBe(98);
    expect(await store.abandoned()).toHaveLength(1);
  });

  it('that are all later than the one that is asked for are left as they are', async () => {
    const transport = await log(100);
    const store = open(transport);
    await train(transport, store, 10);
    const refused = { key: 'unknownVersion', message: expect.stringContaining('100, 90, 80') };
    await expect(recover(model(), store, { transport, topic, upTo: 20 })).rejects.toMatchObject(refused);
    expect(await store.list()).toHaveLength(3);
  });
});

it('a checkpoint that is not whole is set aside, so that those after it stay', async () => {
  const transport = await log(100);
  const folder = place();
  const store = new FileCheckpoints(folder, { keep: 1 });
  await train(transport, store, 30);
  await writeFile(join(folder, '0000000000001000.safetensors'), 'damaged');
  await train(transport, store, 100);
  expect((await store.list()).map(({ version }) => version)).toEqual([100]);
  expect((await store.abandoned()).map(({ entries }) => entries.map(({ version }) => version))).toEqual([[1000]]);
});

it('a checkpoint under the number of another is not whole', async () => {
  const transport = await log(50);
  const store = new FileCheckpoints(place());
  await train(transport, store, 20);
  await store.write(30, await store.read(40));
  const params = await replay({ store, transport, topic, to: { version: 35 } });
  expect(params.version).toBe(35);
});

describe('the time of a moment', () => {
  const start = Date.parse('2026-01-01T00:00:00Z');
  const second = (n: number) => start + 1000 * n;
  // The first checkpoint is of before the first step, and cannot say what it was.
  const scan = (params: Parameters) => sgd(params, { lr: 0.1 });

  /** A batch a second, and checkpoints. */
  async function trained(folder: string) {
    const transport = memoryTransport();
    await transport.createTopic(topic);
    const now = vi.spyOn(Date, 'now');
    try {
      for (let i = 0; i < 50; i++) {
        now.mockReturnValue(second(i));
        await transport.produce(topic, batches('a', 1, i));
      }
    } finally {
      now.mockRestore();
    }
    const store = new FileCheckpoints(folder, { keep: 100 });
    await train(transport, store, 10);
    return { transport, store };
  }

  it.each([
    ['were copied later', Date.parse('2026-06-01T00:00:00Z')],
    ['come of a machine whose clock is behind', Date.parse('1999-01-01T00:00:00Z')],
  ])('is that of the records, where files %s', async (_, savedAtMs) => {
    const folder = place();
    const { transport, store } = await trained(folder);
    for (const { version } of await store.list()) {
      const path = join(folder, `${String(version).padStart(16, '0')}.safetensors`);
      await utimes(path, savedAtMs / 1000, savedAtMs / 1000);
    }
    for (const at of [0, 9, 10, 24, 29, 49, 100]) {
      let steps = 0;
      const onUpdate = () => {
        steps += 1;
      };
      const params = await replay({ store, transport, topic, to: { timeMs: second(at) }, scan, onUpdate });
      const version = Math.min(at + 1, 50);
      expect(params.version).toBe(version);
      // From the newest checkpoint that contains nothing younger.
      expect(steps).toBe(version % 10);
    }
  });

  it('is not guessed where a checkpoint does not say what it contains', async () => {
    const { transport, store } = await trained(place());
    for (const { version } of await store.list()) {
      if (version > 20) await store.write(version, withoutLogFacts(await store.read(version)));
    }
    const params = await replay({ store, transport, topic, to: { timeMs: second(44) }, scan });
    expect(params.version).toBe(45);
    for (const version of [0, 10, 20]) await store.remove(version);
    const refused = replay({ store, transport, topic, to: { timeMs: second(44) } });
    await expect(refused).rejects.toThrow(/a moment behind version 30, the oldest/);
  });
});

it('a folder that is named like a course does no harm', async () => {
  const folder = place();
  await mkdir(join(folder, 'abandoned-7'), { recursive: true });
  const store = await owned(new FileCheckpoints(folder));
  await store.write(1, new Uint8Array(5));
  expect(await store.setAside([1])).toBe(join(folder, 'abandoned-8'));
});
