import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import timers from 'node:timers/promises';
import { embeddedLog, KafkaCheckpoints, type LogRecord, memoryTransport, type NewRecord, type Transport } from 'rxgrad';
import { afterAll, beforeAll, expect, it, onTestFinished, vi } from 'vitest';
import { readAll } from '../../src/sources/read-all.ts';
import { withCallsOf } from '../builtin-calls.ts';
import { owned } from './owned.ts';
import { storeConformance } from './store-conformance.ts';

let folder = '';
let topics = 0;
let log: Transport;
const memory = memoryTransport();
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rxgrad-checkpoints-'));
  log = embeddedLog(join(folder, 'log.db'), { synchronous: 'normal' });
});
afterAll(async () => {
  await log.close();
  await rm(folder, { recursive: true, force: true });
});

const opening = (transport: () => Transport, own: object) => async () => {
  const topic = `checkpoints-${topics++}`;
  return async (keep?: number) =>
    owned(new KafkaCheckpoints(transport(), { topic, ...own, ...(keep === undefined ? {} : { keep }) }));
};

storeConformance(
  'KafkaCheckpoints in memory',
  opening(() => memory, {}),
);
storeConformance(
  'KafkaCheckpoints in memory, in small records',
  opening(() => memory, { chunkBytes: 1024 }),
);
storeConformance(
  'KafkaCheckpoints in an embedded log, in transactions',
  opening(() => log, { transactionalId: 'writer' }),
);

it('keeps models apart', async () => {
  const [a, b] = ['a', 'b'].map((model) => new KafkaCheckpoints(memory, { topic: 'shared', model }));
  await a!.write(1, new Uint8Array(5));
  await b!.write(2, new Uint8Array(6));
  expect((await a!.list()).map(({ version }) => version)).toEqual([1]);
  expect((await b!.list()).map(({ version }) => version)).toEqual([2]);
});

it('does not know a checkpoint whose writer died before its end', async () => {
  const store = new KafkaCheckpoints(memory, { topic: 'died', chunkBytes: 1024 });
  await store.write(1, new Uint8Array(5000));
  let left = 3;
  const dying: Transport = {
    ...memory,
    async produce(topic, records) {
      left -= 1;
      if (left < 0) throw new Error('died');
      return memory.produce(topic, records);
    },
  };
  await expect(new KafkaCheckpoints(dying, { topic: 'died', chunkBytes: 1024 }).write(2, new Uint8Array(5000))).rejects.toThrow(
    'died',
  );
  expect((await store.list()).map(({ version }) => version)).toEqual([1]);
  left = 2;
  // One that is written over in part is the one before no more, and says so.
  await expect(new KafkaCheckpoints(dying, { topic: 'died', chunkBytes: 1024 }).write(1, new Uint8Array(4000))).rejects.toThrow(
    'died',
  );
  expect((await store.read(1)).byteLength).toBe(5000);
});

it('is taken over by its transactional id before the newer one looks at what is there', async () => {
  const open = () => new KafkaCheckpoints(memory, { topic: 'owned', transactionalId: 'trainer' });
  const [older, newer] = [open(), open()];
  await older.takeOver();
  await older.write(1, new Uint8Array(5));
  await newer.takeOver();
  await expect(older.write(2, new Uint8Array(5))).rejects.toMatchObject({ key: 'fenced' });
  expect((await newer.list()).map(({ version }) => version)).toEqual([1]);
  await newer.write(2, new Uint8Array(6));
  await older.takeOver();
  await expect(newer.remove(1)).rejects.toMatchObject({ key: 'fenced' });
  expect((await older.list()).map(({ version, bytes }) => [version, bytes])).toEqual([
    [2, 6],
    [1, 5],
  ]);
});

it('is changed by nobody that has not taken it over, and pinned and read by anybody', async () => {
  const opened: string[] = [];
  const noting: Transport = {
    ...memory,
    writer: (id) => {
      opened.push(id);
      return memory.writer(id);
    },
  };
  const open = () => new KafkaCheckpoints(noting, { topic: 'foreign', transactionalId: 'trainer' });
  const trainer = await owned(open());
  await trainer.write(1, new Uint8Array(5));
  const other = open();
  expect([trainer.tookOver, other.tookOver]).toEqual([true, false]);
  const refused = (what: string) => ({ key: 'notOwner', message: expect.stringContaining(what) });
  await expect(other.write(2, new Uint8Array(5))).rejects.toMatchObject(refused('writing version 2'));
  await expect(other.remove(1)).rejects.toMatchObject(refused('removing version 1'));
  await expect(other.setAside([1])).rejects.toMatchObject(refused('setting versions aside'));
  await other.pin(1, true);
  expect(await other.read(1)).toHaveLength(5);
  expect(opened).toEqual(['trainer']);
  // The owner is still the one that it was.
  await trainer.write(2, new Uint8Array(5));
  expect((await trainer.list()).map(({ version, pinned }) => [version, pinned])).toEqual([
    [2, false],
    [1, true],
  ]);
});

it('shows a new owner all that the owner before has written, also while a transaction of another model hides it', async () => {
  const older = await owned(new KafkaCheckpoints(memory, { topic: 'hidden', transactionalId: 'trainer' }));
  await older.write(1, new Uint8Array(5));
  const [end] = await memory.endOffsets('hidden');
  await older.write(2, new Uint8Array(5));
  let hidden = 5;
  const lagging: Transport = { ...memory, endOffsets: async (topic) => (hidden-- > 0 ? [end!] : memory.endOffsets(topic)) };
  const newer = await owned(new KafkaCheckpoints(lagging, { topic: 'hidden', transactionalId: 'trainer' }));
  expect((await newer.list()).map(({ version }) => version)).toEqual([2, 1]);
});

it('is fenced where a newer owner removes what it has just written, before it was read back', async () => {
  const open = () => new KafkaCheckpoints(memory, { topic: 'removed', transactionalId: 'trainer' });
  const [older, newer] = [open(), open()];
  await older.takeOver();
  const read = older.read.bind(older);
  older.read = async (version) => {
    await newer.takeOver();
    await newer.remove(version);
    return read(version);
  };
  await expect(older.write(1, new Uint8Array(5))).rejects.toMatchObject({ key: 'fenced' });
});

/** The values that a compacted topic is left with, by key. */
async function leftIn(topic: string): Promise<Map<string, LogRecord>> {
  const left = new Map<string, LogRecord>();
  await readAll(memory, topic, {}, (record) => {
    if (record.value) left.set(String(Buffer.from(record.key!)), record);
    else left.delete(String(Buffer.from(record.key!)));
  });
  return left;
}

it('leaves nothing in its topic of what was removed, set aside or written over', async () => {
  const store = new KafkaCheckpoints(memory, { topic: 'left', chunkBytes: 1024, keep: 1 });
  await store.write(1, new Uint8Array(5000));
  expect([...(await leftIn('left')).keys()].sort()).toEqual([
    'model/1/0',
    'model/1/1',
    'model/1/2',
    'model/1/3',
    'model/1/4',
    'model/1/head',
  ]);
  await store.write(1, new Uint8Array(2048));
  await store.pin(1, true);
  expect([...(await leftIn('left')).keys()].sort()).toEqual(['model/1/0', 'model/1/1', 'model/1/head', 'model/1/pin']);
  await store.setAside([9, 1]);
  const aside = ['0', '1', 'head', 'pin'].map((part) => `model~abandoned-1/1/${part}`);
  expect([...(await leftIn('left')).keys()].sort()).toEqual(aside);
  await store.write(2, new Uint8Array(3000));
  await store.write(3, new Uint8Array(1));
  expect([...(await leftIn('left')).keys()].sort()).toEqual(['model/3/0', 'model/3/head', ...aside]);
  await store.remove(3);
  const [end] = await memory.endOffsets('left');
  await store.remove(3);
  expect(await memory.endOffsets('left')).toEqual([end]);
  expect([...(await leftIn('left')).keys()].sort()).toEqual(aside);
});

it('opens what was set aside as a store of its own, pins included', async () => {
  const store = new KafkaCheckpoints(memory, { topic: 'aside', chunkBytes: 1024 });
  const file = Uint8Array.from({ length: 3000 }, (_, i) => i % 251);
  for (const version of [1, 2]) await store.write(version, file);
  await store.pin(1, true);
  expect(await store.setAside([2, 1])).toBe('checkpoints of "model~abandoned-1" in topic aside');
  const aside = new KafkaCheckpoints(memory, { topic: 'aside', model: 'model~abandoned-1' });
  expect((await aside.list()).map(({ version, pinned }) => [version, pinned])).toEqual([
    [2, false],
    [1, true],
  ]);
  expect(Buffer.from(await aside.read(1)).equals(file)).toBe(true);
});

it.each<[string, NewRecord[], string]>([
  ['a record', [{ key: 'model/1/1', value: null }], 'expected all of its bytes, got some of its records are missing'],
  [
    'a part of one',
    [{ key: 'model/1/1', value: new Uint8Array(1000), headers: {} }],
    'expected all of its bytes, got 2976 bytes',
  ],
])('calls a checkpoint that lacks %s broken, and sets it aside as it is', async (_, records, words) => {
  const name = `lacking-${topics++}`;
  const store = new KafkaCheckpoints(memory, { topic: name, chunkBytes: 1024 });
  await store.write(1, new Uint8Array(3000));
  const id = (await leftIn(name)).get('model/1/0')!.headers.id!;
  await memory.produce(
    name,
    records.map((record) => (record.headers ? { ...record, headers: { id } } : record)),
  );
  const opened = new KafkaCheckpoints(memory, { topic: name });
  // Until a topic is compacted it shows what was taken away, too.
  for (let i = 0; i < 70; i++) await memory.produce(name, [{ key: 'other', value: null }]);
  await expect(opened.read(1)).rejects.toMatchObject({ key: 'invalidCheckpoint', message: expect.stringContaining(words) });
  await opened.setAside([1]);
  expect(await opened.list()).toEqual([]);
  expect(await opened.abandoned()).toHaveLength(1);
});

it('knows what it has written where others write to the topic at the same time', async () => {
  const other = new KafkaCheckpoints(memory, { topic: 'busy', model: 'b', chunkBytes: 1024 });
  await other.write(1, new Uint8Array(5));
  let stale = 0;
  const busy: Transport = {
    ...memory,
    async produce(topic, records) {
      if (String(records[0]!.key).endsWith('/0')) await other.write(2, new Uint8Array(5));
      const positions = await memory.produce(topic, records);
      // As long as a transaction of the other one is open, the end is told to be before it.
      stale = 3;
      return positions;
    },
    async endOffsets(topic) {
      if (topic !== 'busy' || stale === 0) return memory.endOffsets(topic);
      stale -= 1;
      return [2];
    },
  };
  const store = new KafkaCheckpoints(busy, { topic: 'busy', model: 'a', chunkBytes: 1024 });
  await store.write(1, new Uint8Array(3000));
  expect((await store.list()).map(({ version, bytes }) => [version, bytes])).toEqual([[1, 3000]]);
  expect(await store.read(1)).toHaveLength(3000);
});

it('keeps what another process pins while it writes the records of a checkpoint', async () => {
  const other = new KafkaCheckpoints(memory, { topic: 'pinned', chunkBytes: 1024 });
  const pinning: Transport = {
    ...memory,
    async produce(topic, records) {
      if (String(records[0]!.key).endsWith('/2') && String(records[0]!.key).startsWith('model/2/')) await other.pin(1, true);
      return memory.produce(topic, records);
    },
  };
  const store = new KafkaCheckpoints(pinning, { topic: 'pinned', chunkBytes: 1024, keep: 1 });
  for (const version of [1, 2, 3]) await store.write(version, new Uint8Array(5000));
  for (const one of [store, other, new KafkaCheckpoints(memory, { topic: 'pinned' })]) {
    expect((await one.list()).map(({ version, pinned }) => [version, pinned])).toEqual([
      [3, false],
      [1, true],
    ]);
    expect(await one.read(1)).toHaveLength(5000);
  }
});

it('waits no longer than a minute for the end of a transaction of others', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  vi.advanceTimersByTime(100_000);
  let waitedMs = 0;
  withCallsOf(timers, {
    setTimeout: (async (ms: number) => {
      waitedMs += ms;
      vi.advanceTimersByTime(ms);
    }) as typeof timers.setTimeout,
  });
  let stuck = false;
  const stuckLog: Transport = {
    ...memory,
    endOffsets: async (topic) => (stuck ? [0] : memory.endOffsets(topic)),
  };
  const store = new KafkaCheckpoints(stuckLog, { topic: 'stuck' });
  await store.write(1, new Uint8Array(5));
  expect(waitedMs).toBe(0);
  stuck = true;
  expect(await store.list()).toHaveLength(1);
  expect(waitedMs).toBe(60_000);
});

it('reads what it has written from its first record on, and nothing before', async () => {
  const asked: (number | undefined)[] = [];
  const counting: Transport = {
    ...memory,
    consume: (options) => {
      asked.push(options.from instanceof Map ? options.from.get(0) : undefined);
      return memory.consume(options);
    },
  };
  const store = new KafkaCheckpoints(counting, { topic: 'reading', chunkBytes: 1024 });
  await store.write(1, new Uint8Array(3000));
  await store.write(2, new Uint8Array(3000));
  asked.length = 0;
  await store.read(2);
  await store.read(1);
  // Four records each; its own are known without being read.
  expect(asked).toEqual([4, 0]);
  const again = new KafkaCheckpoints(counting, { topic: 'reading' });
  await again.list();
  await again.list();
  await again.read(2);
  expect(asked.slice(2)).toEqual([0, 4]);
});

it('reads a topic that has let go of its first records', async () => {
  const store = new KafkaCheckpoints(memory, { topic: 'old' });
  for (const version of [1, 2]) await store.write(version, new Uint8Array(5));
  const asked: (number | undefined)[] = [];
  const cut: Transport = {
    ...memory,
    startOffsets: async () => [2],
    consume: (options) => {
      asked.push(options.from instanceof Map ? options.from.get(0) : undefined);
      return memory.consume(options);
    },
  };
  const opened = new KafkaCheckpoints(cut, { topic: 'old' });
  expect((await opened.list()).map(({ version }) => version)).toEqual([2]);
  expect(asked).toEqual([2]);
});

it('makes its topic compacted, once, and tries that again where it failed', async () => {
  const made: unknown[] = [];
  const failing: Transport = {
    ...memory,
    async createTopic(topic, options) {
      made.push(options);
      if (made.length === 1) throw new Error('not now');
      return memory.createTopic(topic, options);
    },
  };
  const store = new KafkaCheckpoints(failing, { topic: 'made' });
  await expect(store.list()).rejects.toThrow('not now');
  expect(await store.list()).toEqual([]);
  await store.write(1, new Uint8Array(5));
  expect(made).toEqual([{ compacted: true }, { compacted: true }]);
});

it('closes its writer, and the one before where it takes the store over again', async () => {
  const closed: number[] = [];
  let opened = 0;
  const noting: Transport = {
    ...memory,
    async writer(id) {
      const number = ++opened;
      const writer = await memory.writer(id);
      return { ...writer, close: async () => void closed.push(number) };
    },
  };
  const store = new KafkaCheckpoints(noting, { topic: 'closing', transactionalId: 'closing' });
  await store.takeOver();
  await store.write(1, new Uint8Array(5));
  await store.takeOver();
  expect(closed).toEqual([1]);
  await store.write(2, new Uint8Array(5));
  await store.close();
  expect([opened, closed]).toEqual([2, [1, 2]]);
  const plain = new KafkaCheckpoints(noting, { topic: 'closing' });
  await plain.takeOver();
  await plain.write(3, new Uint8Array(5));
  await plain.close();
  expect(opened).toBe(2);
});

it('takes the store over although its writer could not be opened before', async () => {
  let attempts = 0;
  const failing: Transport = {
    ...memory,
    async writer(id) {
      attempts += 1;
      if (attempts === 1) throw new Error('not now');
      return memory.writer(id);
    },
  };
  const store = new KafkaCheckpoints(failing, { topic: 'retaken', transactionalId: 'retaken' });
  await expect(store.takeOver()).rejects.toThrow('not now');
  await store.takeOver();
  await store.write(1, new Uint8Array(5));
  expect(await store.list()).toHaveLength(1);
});

it('fails where what is read back is not there, unless a newer one of its group has taken it away', async () => {
  const lost = (name: string, newer: boolean) => {
    const other = new KafkaCheckpoints(memory, { topic: name });
    const store = new KafkaCheckpoints(memory, { topic: name });
    store.read = async (version) => {
      await other.remove(version);
      if (newer) await other.write(version + 1, new Uint8Array(5));
      return KafkaCheckpoints.prototype.read.call(store, version);
    };
    return store.write(1, new Uint8Array(5));
  };
  await expect(lost('lost', false)).rejects.toMatchObject({ key: 'checkpointFailed' });
  await lost('outdated', true);
});

it.each<[object, RegExp]>([
  [{ topic: '' }, /topic: expected a name/],
  [{ topic: 't', model: 'a/b' }, /model: expected a name without "\/"/],
  [{ topic: 't', model: '' }, /model: expected a name without/],
  [{ topic: 't', keep: 0 }, /keep: expected >=1/],
  [{ topic: 't', chunkBytes: 1023 }, /chunkBytes: expected >=1024/],
  [{ topic: 't', transactionalId: '' }, /transactionalId: expected a name/],
  [{ topic: 't', compacted: true }, /compacted: expected no such option/],
])('refuses %o', (options, message) => {
  expect(() => new KafkaCheckpoints(memory, options as { topic: string })).toThrow(message);
});
