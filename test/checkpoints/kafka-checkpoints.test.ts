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

/** Has a topic compacted: until then it shows what was written over, too. */
async function compacted(topic: string): Promise<void> {
  const others = 300;
  for (let i = 0; i < others; i++) await memory.produce(topic, [{ key: 'other', value: null }]);
  let records = 0;
  await readAll(memory, topic, {}, () => {
    records += 1;
  });
  expect(records).toBeLessThan(others);
}

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
  /** What is left, without the ids of files. */
  const left = async () => [...(await leftIn('left')).keys()].map((key) => key.replace(/\/[0-9a-f-]{36}\//, '/ID/')).sort();
  expect(await left()).toEqual([0, 1, 2, 3, 4].map((part) => `model/1/ID/${part}`).concat('model/1/head'));
  await store.write(1, new Uint8Array(2048));
  await store.pin(1, true);
  expect(await left()).toEqual(['model/1/ID/0', 'model/1/ID/1', 'model/1/head', 'model/1/pin']);
  await store.setAside([9, 1]);
  const aside = ['ID/0', 'ID/1', 'head', 'pin'].map((part) => `model~abandoned-1/1/${part}`);
  expect(await left()).toEqual(aside);
  await store.write(2, new Uint8Array(3000));
  await store.write(3, new Uint8Array(1));
  expect(await left()).toEqual(['model/3/ID/0', 'model/3/head', ...aside]);
  await store.remove(3);
  const [end] = await memory.endOffsets('left');
  await store.remove(3);
  expect(await memory.endOffsets('left')).toEqual([end]);
  expect(await left()).toEqual(aside);
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

it.each<[string, Uint8Array | null, string]>([
  ['a record', null, 'expected all of its bytes, got some of its records are missing'],
  ['a part of one', new Uint8Array(1000), 'expected all of its bytes, got 2976 bytes'],
])('calls a checkpoint that lacks %s broken, and sets it aside as it is', async (_, value, words) => {
  const name = `lacking-${topics++}`;
  const store = new KafkaCheckpoints(memory, { topic: name, chunkBytes: 1024 });
  await store.write(1, new Uint8Array(3000));
  const key = [...(await leftIn(name)).keys()].find((one) => one.endsWith('/1'))!;
  await memory.produce(name, [{ key, value }]);
  await compacted(name);
  const opened = new KafkaCheckpoints(memory, { topic: name });
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

/** Has something done before the first record is appended that `is` it. */
function interrupted(is: (record: NewRecord) => boolean, action: () => Promise<unknown>): Transport {
  let done = false;
  return {
    ...memory,
    async produce(topic, records) {
      if (!done && is(records[0]!)) {
        done = true;
        await action();
      }
      return memory.produce(topic, records);
    },
  };
}

/** How a version begins to be removed. */
const isRemoval = ({ key, value }: NewRecord) => key === 'model/1/removed' || (key === 'model/1/head' && value === null);

it('keeps what another process pins after it was found to be one too many, and before it is removed', async () => {
  const other = new KafkaCheckpoints(memory, { topic: 'pinned-first' });
  const pinning = interrupted(isRemoval, () => other.pin(1, true));
  const store = new KafkaCheckpoints(pinning, { topic: 'pinned-first', keep: 1 });
  for (const version of [1, 2]) await store.write(version, new Uint8Array(version));
  await compacted('pinned-first');
  for (const one of [store, other, new KafkaCheckpoints(memory, { topic: 'pinned-first' })]) {
    expect((await one.list()).map(({ version, pinned }) => [version, pinned])).toEqual([
      [2, false],
      [1, true],
    ]);
    expect(await one.read(1)).toHaveLength(1);
  }
  // Nothing is left of the removal that would count once the pin goes and comes back.
  expect((await leftIn('pinned-first')).has('model/1/removed')).toBe(false);
});

it('refuses a pin that comes too late, and removes nothing but what nobody has pinned', async () => {
  const store = new KafkaCheckpoints(memory, { topic: 'pinned-late', keep: 1 });
  await store.write(1, new Uint8Array(5));
  const isPin = ({ key }: NewRecord) => key === 'model/1/pin';
  // Between its look and its record the version goes.
  const late = new KafkaCheckpoints(
    interrupted(isPin, () => store.write(2, new Uint8Array(5))),
    { topic: 'pinned-late' },
  );
  await expect(late.pin(1, true)).rejects.toMatchObject({
    key: 'checkpointFailed',
    message: expect.stringContaining('pinning version 1 failed: it was removed at the same time'),
  });
  expect((await late.list()).map(({ version, pinned }) => [version, pinned])).toEqual([[2, false]]);
  expect([...(await leftIn('pinned-late')).keys()].filter((key) => !key.startsWith('model/2/'))).toEqual([]);
});

it('refuses a pin of which a transaction of another one hides whether it comes too late', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  withCallsOf(timers, {
    setTimeout: (async (ms: number) => void vi.advanceTimersByTime(ms)) as typeof timers.setTimeout,
  });
  await new KafkaCheckpoints(memory, { topic: 'pin-hidden' }).write(1, new Uint8Array(5));
  const [end] = await memory.endOffsets('pin-hidden');
  await memory.produce('pin-hidden', [{ key: 'other/1/0', value: new Uint8Array(5) }]);
  const store = new KafkaCheckpoints({ ...memory, endOffsets: async () => [end!] }, { topic: 'pin-hidden' });
  await expect(store.pin(1, true)).rejects.toThrow('hides whether it is being removed. Try again');
  expect((await leftIn('pin-hidden')).has('model/1/pin')).toBe(false);
});

/** A transport on which so many records can be appended before it dies. */
function dyingAfter(records: number): Transport {
  let left = records;
  return {
    ...memory,
    async produce(topic, given) {
      left -= 1;
      if (left < 0) throw new Error('died');
      return memory.produce(topic, given);
    },
  };
}

it('stays readable where a process dies as it writes a version again, also once the topic was compacted', async () => {
  const file = Uint8Array.from({ length: 5000 }, (_, i) => i % 251);
  await new KafkaCheckpoints(memory, { topic: 'rewritten', chunkBytes: 1024 }).write(1, file);
  const dying = new KafkaCheckpoints(dyingAfter(3), { topic: 'rewritten', chunkBytes: 1024 });
  await expect(dying.write(1, new Uint8Array(4000))).rejects.toThrow('died');
  await compacted('rewritten');
  expect(Buffer.from(await new KafkaCheckpoints(memory, { topic: 'rewritten' }).read(1)).equals(file)).toBe(true);
});

it('removes what a writer that died has left, with the next version that is written, also after compaction', async () => {
  const open = (transport = memory) => new KafkaCheckpoints(transport, { topic: 'orphans', chunkBytes: 1024 });
  await open().write(1, new Uint8Array(3000));
  await expect(open(dyingAfter(4)).write(2, new Uint8Array(5000))).rejects.toThrow('died');
  await expect(open(dyingAfter(2)).write(1, new Uint8Array(5000))).rejects.toThrow('died');
  await compacted('orphans');
  const parts = async () => [...(await leftIn('orphans')).values()].filter(({ value }) => value!.byteLength === 1024).length;
  expect(await parts()).toBe(2 + 4 + 2);
  // One that begins later than the next version does may still be under way, and one of a later version is not known to be left.
  await expect(open(dyingAfter(1)).write(9, new Uint8Array(5000))).rejects.toThrow('died');
  await open(
    interrupted(
      ({ key }) => String(key).endsWith('/0'),
      async () => {},
    ),
  ).write(3, new Uint8Array(3000));
  expect(await parts()).toBe(2 + 2 + 1);
  expect((await open().list()).map(({ version }) => version)).toEqual([3, 1]);
  for (const version of [1, 3]) expect(await open().read(version)).toHaveLength(3000);
  await open().write(10, new Uint8Array(1024));
  expect(await parts()).toBe(2 + 2 + 1);
});

it('leaves alone what another process is writing at the same time', async () => {
  const other = new KafkaCheckpoints(memory, { topic: 'under-way', chunkBytes: 1024 });
  let slow: Promise<void> = Promise.resolve();
  const paused = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  const slowly: Transport = {
    ...memory,
    async produce(topic, records) {
      if (String(records[0]!.key).endsWith('/2')) {
        paused.resolve();
        await goOn.promise;
      }
      return memory.produce(topic, records);
    },
  };
  // Its second record comes after the other one has begun, and its third one after that has ended.
  const beginning = interrupted(
    ({ key }) => String(key).endsWith('/1'),
    async () => {
      slow = new KafkaCheckpoints(slowly, { topic: 'under-way', chunkBytes: 1024 }).write(5, new Uint8Array(5000));
      await paused.promise;
    },
  );
  await new KafkaCheckpoints(beginning, { topic: 'under-way', chunkBytes: 1024 }).write(6, new Uint8Array(5000));
  goOn.resolve();
  await slow;
  expect((await other.list()).map(({ version }) => version)).toEqual([6, 5]);
  for (const version of [5, 6]) expect(await other.read(version)).toHaveLength(5000);
});

it('gives up a version whose records were taken for left over, since a newer one is whole', async () => {
  const open = (transport = memory) => new KafkaCheckpoints(transport, { topic: 'stood-still', chunkBytes: 1024 });
  const stopped = open(
    interrupted(
      ({ key }) => String(key).endsWith('/2'),
      () => open().write(6, new Uint8Array(5000)),
    ),
  );
  await stopped.write(5, new Uint8Array(5000));
  expect((await open().list()).map(({ version }) => version)).toEqual([6]);
  await open().write(7, new Uint8Array(5000));
  const versions = [...(await leftIn('stood-still')).keys()].map((key) => key.split('/')[1]);
  expect(new Set(versions)).toEqual(new Set(['6', '7']));
});

it('reads, pins, writes over and removes what earlier versions of rxgrad have written', async () => {
  const topic = 'old-layout';
  await memory.createTopic(topic, { compacted: true });
  const file = (version: number) => Uint8Array.from({ length: 2500 }, (_, i) => (i + version) % 251);
  for (const version of [1, 2, 3]) {
    const id = `file-${version}`;
    const parts = [0, 1, 2].map((i) => ({
      key: `model/${version}/${i}`,
      value: file(version).subarray(1024 * i, 1024 * (i + 1)),
      headers: { id },
    }));
    const head = { key: `model/${version}/head`, value: Buffer.from(JSON.stringify({ id, bytes: 2500, chunks: 3 })) };
    await memory.produce(topic, [...parts, head]);
  }
  // The writer of a fourth one has died.
  await memory.produce(topic, [{ key: 'model/4/0', value: new Uint8Array(1024), headers: { id: 'died' } }]);
  await compacted(topic);
  const store = new KafkaCheckpoints(memory, { topic, keep: 1 });
  expect((await store.list()).map(({ version, bytes }) => [version, bytes])).toEqual([
    [3, 2500],
    [2, 2500],
    [1, 2500],
  ]);
  for (const version of [1, 2, 3]) expect(Buffer.from(await store.read(version)).equals(file(version))).toBe(true);
  await store.pin(2, true);
  await store.write(2, file(7));
  await store.write(5, file(5));
  expect((await store.list()).map(({ version, pinned }) => [version, pinned])).toEqual([
    [5, false],
    [2, true],
  ]);
  expect(Buffer.from(await store.read(2)).equals(file(7))).toBe(true);
  expect([...(await leftIn(topic)).keys()].map((key) => key.replace(/[0-9a-f-]{36}/, 'ID')).sort()).toEqual([
    'model/2/ID/0',
    'model/2/head',
    'model/2/pin',
    'model/5/ID/0',
    'model/5/head',
  ]);
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
