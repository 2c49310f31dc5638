import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { crc32 } from 'node:zlib';
import MersenneTwister from 'mersenne-twister';
import { describe, expect, it, onTestFinished, type TestContext } from 'vitest';
import { isRxgradError } from '../../src/errors.ts';
import { embeddedLog } from '../../src/sources/embedded-log.ts';
import { readAll } from '../../src/sources/read-all.ts';
import type { LogRecord, NewRecord, Transport } from '../../src/sources/transport.ts';
import { eventually } from '../eventually.ts';
import { collect } from './collector.ts';

// `RXGRAD_FLIPS=5000 npx vitest run --project unit test/sources/log-integrity.test.ts` for more of them.
const flips = Number(process.env.RXGRAD_FLIPS ?? 250);
const suffixes = ['', '-wal', '-shm', '-ends'];

function logPath(context: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'rxgrad-log-'));
  context.onTestFinished(() => rmSync(folder, { recursive: true }));
  return join(folder, 'log');
}

function opened(context: TestContext, path: string): Transport {
  const log = embeddedLog(path);
  context.onTestFinished(() => log.close());
  return log;
}

/** As a process that is killed leaves it: nothing is brought from the write-ahead log to the file. */
function copyAsKilled(from: string, to: string): void {
  for (const suffix of suffixes) if (existsSync(from + suffix)) copyFileSync(from + suffix, to + suffix);
}

function texts(count: number, first = 0): NewRecord[] {
  return Array.from({ length: count }, (_, i) => ({
    key: `worker-${(first + i) % 3}`,
    value: Buffer.from(`gradient ${first + i} `.repeat(20)),
    headers: { ce_id: `${first + i}`, ce_type: 'gradient', raw: new Uint8Array([first + i, 255]) },
  }));
}

async function recordsOf(log: Transport, topic: string): Promise<LogRecord[]> {
  const records: LogRecord[] = [];
  await readAll(log, topic, { from: 'beginning' }, (record) => void records.push(record));
  return records;
}

const plain = (records: readonly LogRecord[]) =>
  records.map(({ offset, key, value, headers, timestampMs }) => [
    offset,
    key && Buffer.from(key).toString('latin1'),
    value && Buffer.from(value).toString('latin1'),
    JSON.stringify(headers),
    timestampMs,
  ]);

describe('a log whose file was changed', () => {
  async function fill(path: string): Promise<void> {
    const log = embeddedLog(path, { synchronous: 'normal' });
    await log.createTopic('gradients', { partitions: 2 });
    await log.createTopic('checkpoints', { compacted: true });
    for (let i = 0; i < 6; i++) {
      await log.produce(
        'gradients',
        texts(40, 40 * i).map((record, j) => ({ ...record, partition: j % 2 })),
      );
      await log.produce('checkpoints', [{ key: `${i % 2}`, value: new Uint8Array(60_000).fill(i) }]);
    }
    const writer = await log.writer('trainer');
    await writer.write([{ topic: 'gradients', value: new Uint8Array(100_000).fill(9) }]);
    await writer.close();
    const consumption = await log.consume({ topic: 'gradients', group: 'g', deliver: () => {}, onError: () => {} });
    consumption.acknowledge({ topic: 'gradients', partition: 0, offset: 77 });
    await consumption.stop();
    await log.close();
  }

  /** All that the log says to those who use it, also of what is appended next. */
  async function told(path: string, appending: boolean): Promise<unknown> {
    const log = embeddedLog(path, { synchronous: 'normal' });
    try {
      const said: unknown[] = [];
      for (const topic of ['gradients', 'checkpoints']) {
        await log.createTopic(topic, { partitions: topic === 'gradients' ? 2 : 1, compacted: topic === 'checkpoints' });
        said.push(plain(await recordsOf(log, topic)), await log.startOffsets(topic), await log.endOffsets(topic));
      }
      let first: number | undefined;
      const failed = Promise.withResolvers<void>();
      const consumption = await log.consume({
        topic: 'gradients',
        group: 'g',
        deliver(_, partition, records) {
          if (partition !== 0) return;
          first ??= records[0]!.offset;
          failed.resolve();
        },
        onError: failed.reject,
      });
      await failed.promise.finally(() => consumption.stop());
      said.push(first);
      if (!appending) return said;
      const writer = await log.writer('trainer');
      said.push(await writer.write([{ topic: 'gradients', value: null, partition: 1 }]));
      await log.produce('checkpoints', [{ key: '1', value: null }]);
      const after = await recordsOf(log, 'checkpoints');
      said.push(
        after.map(({ offset }) => offset),
        (await recordsOf(log, 'gradients')).length,
      );
      return said;
    } finally {
      await log.close();
    }
  }

  it(`is refused, or says the same, wherever one byte of it is another: ${flips} bytes`, {
    timeout: 600_000,
  }, async (context) => {
    const path = logPath(context);
    await fill(path);
    const whole = readFileSync(path);
    const copy = `${path}-copy`;
    const restore = (bytes: Uint8Array): void => {
      for (const suffix of suffixes) rmSync(copy + suffix, { force: true });
      writeFileSync(copy, bytes);
      if (existsSync(`${path}-ends`)) copyFileSync(`${path}-ends`, `${copy}-ends`);
    };
    restore(whole);
    const expected = [await told(copy, false), await told(copy, true)];
    const random = new MersenneTwister(14);
    const refusals = new Map<string, number>();
    let harmless = 0;
    for (let flip = 0; flip < flips; flip++) {
      // Half of them where most of the structure is.
      const at = random.random_int31() % (flip % 2 === 0 ? whole.length : 5 * 16_384);
      const bytes = Uint8Array.from(whole);
      bytes[at]! ^= 1 << (random.random_int31() % 8);
      restore(bytes);
      try {
        const appending = flip % 5 === 0;
        expect(await told(copy, appending), `byte ${at}`).toEqual(expected[Number(appending)]);
        harmless += 1;
      } catch (error) {
        if (!isRxgradError(error)) throw new Error(`byte ${at}: ${(error as Error).message}`, { cause: error });
        refusals.set(error.key, (refusals.get(error.key) ?? 0) + 1);
        expect(['damagedLog', 'transportFailed'], `byte ${at}: ${error.message}`).toContain(error.key);
      }
    }
    context.annotate(`${harmless} harmless, refused: ${JSON.stringify(Object.fromEntries(refusals))}`);
    expect(refusals.get('damagedLog')).toBeGreaterThan(flips / 4);
  });

  it('is refused at the record whose bits are others, by whoever reads it', async (context) => {
    const path = logPath(context);
    await fill(path);
    const bytes = readFileSync(path);
    // Where the tree was rearranged, old copies are left in what is free.
    for (let at = bytes.indexOf('gradient 83 '); at !== -1; at = bytes.indexOf('gradient 83 ')) bytes[at + 9]! ^= 1;
    writeFileSync(path, bytes);
    const log = opened(context, path);
    const collector = await collect(context, log, { topic: 'gradients', from: 'beginning' });
    await eventually(() => expect(collector.errors).toHaveLength(1));
    expect(collector.errors[0]!.message).toMatch(
      /^Embedded log .*, gradients\/1@41: expected a record whose CRC-32 is \d+, got \d+\. Bring back a whole copy/,
    );
    expect(collector.delivered.filter(({ partition, offset }) => partition === 1 && offset >= 41)).toEqual([]);
  });

  it.each([0.001, 0.5, 1])('is refused where %f of it was cut off', async (share) => {
    const folder = mkdtempSync(join(tmpdir(), 'rxgrad-log-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const path = join(folder, 'log');
    await fill(path);
    const { size } = statSync(path);
    truncateSync(path, Math.floor(size * (1 - share)));
    expect(() => embeddedLog(path)).toThrow(
      share === 1 ? 'the file is empty' : /expected a file of \d+ bytes, got \d+: it was cut off|malformed/,
    );
    expect(caught(() => embeddedLog(path))).toMatchObject({ key: 'damagedLog' });
  });
});

describe('a log whose file is taken away while it is open', () => {
  const cases: [string, (path: string) => void, RegExp][] = [
    ['deleted', (path) => rmSync(path), /was deleted, or moved, while it was open/],
    ['moved', (path) => renameSync(path, `${path}-moved`), /was deleted, or moved, while it was open/],
    [
      'replaced',
      (path) => {
        copyFileSync(path, `${path}-other`);
        renameSync(`${path}-other`, path);
      },
      /was replaced while it was open/,
    ],
    ['cut off', (path) => truncateSync(path, statSync(path).size - 20_000), /was cut off while it was open, from \d+ bytes to/],
    ['left without its write-ahead log', (path) => rmSync(`${path}-wal`), /-wal was deleted/],
  ];

  it.each(cases)('fails at once for who appends and who waits: %s', async (_, harm, expected) => {
    const folder = mkdtempSync(join(tmpdir(), 'rxgrad-log-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const path = join(folder, 'log');
    const before = embeddedLog(path);
    await before.createTopic('gradients');
    await before.produce('gradients', texts(100));
    await before.close();
    const log = embeddedLog(path);
    onTestFinished(() => log.close());
    const reached = Promise.withResolvers<void>();
    const failed = Promise.withResolvers<Error>();
    await log.consume({
      topic: 'gradients',
      from: 'beginning',
      deliver: () => {},
      onReached: () => reached.resolve(),
      onError: failed.resolve,
    });
    await reached.promise;
    harm(path);
    expect((await failed.promise).message).toMatch(expected);
    await expect(log.produce('gradients', texts(1))).rejects.toMatchObject({
      key: 'damagedLog',
      message: expect.stringMatching(expected),
    });
  });
});

describe('the write-ahead log of a process that was killed', () => {
  /** Leaves what a process leaves that was killed after 30 appends: all of them in the write-ahead log. */
  async function killed(context: TestContext): Promise<string> {
    const path = logPath(context);
    const log = opened(context, path);
    await log.createTopic('gradients');
    for (let i = 0; i < 30; i++) await log.produce('gradients', texts(1, i));
    copyAsKilled(path, `${path}-killed`);
    return `${path}-killed`;
  }

  it('holds all that was acknowledged, also without the index beside it', async (context) => {
    const path = await killed(context);
    rmSync(`${path}-shm`);
    expect(await opened(context, path).endOffsets('gradients')).toEqual([30]);
  });

  const cases: [string, (wal: string) => void][] = [
    ['cut off', (wal) => truncateSync(wal, statSync(wal).size - 16_384 * 3)],
    ['cut off within a frame', (wal) => truncateSync(wal, statSync(wal).size - 100)],
    [
      'another byte in the middle',
      (wal) => {
        const bytes = readFileSync(wal);
        bytes[bytes.length >> 1]! ^= 4;
        writeFileSync(wal, bytes);
      },
    ],
  ];
  it.each(cases)('is missed where it was harmed: %s', async (_, harm) => {
    const context = { onTestFinished } as unknown as TestContext;
    const path = await killed(context);
    harm(`${path}-wal`);
    expect(caught(() => embeddedLog(path))).toMatchObject({
      key: 'damagedLog',
      message: expect.stringMatching(/gradients\/0: it ends at offset \d+, but the records up to 30 were acknowledged/),
    });
  });

  it('is missed where it was taken away, until one says that this is meant', async (context) => {
    const path = logPath(context);
    const before = embeddedLog(path);
    await before.createTopic('gradients');
    await before.produce('gradients', texts(5));
    await before.close();
    const log = opened(context, path);
    await log.produce('gradients', texts(3, 5));
    copyAsKilled(path, `${path}-killed`);
    rmSync(`${path}-killed-wal`);
    expect(() => embeddedLog(`${path}-killed`)).toThrow(
      `it ends at offset 5, but the records up to 8 were acknowledged. Where an older copy was brought back on purpose, remove ${realpathSync(path)}-killed-ends`,
    );
    rmSync(`${path}-killed-ends`);
    const again = opened(context, `${path}-killed`);
    expect(await again.produce('gradients', texts(1))).toMatchObject([{ offset: 5 }]);
  });
});

describe('the ends that a log keeps beside it', () => {
  /** Writes the ends anew, as before the machine was started again, where nobody waited for the disk. */
  function asAfterALossOfPower(path: string): void {
    const database = new DatabaseSync(path);
    const { id } = database.prepare('SELECT id FROM log').get() as { id: string };
    database.close();
    const ends = readFileSync(`${path}-ends`);
    const slot = ends.subarray(32, 64);
    slot.writeUInt32LE(0, 8);
    slot.writeUInt32LE(1, 12);
    slot.writeUInt32LE(crc32(slot.subarray(0, 28), crc32('1', crc32(id))), 28);
    writeFileSync(`${path}-ends`, ends);
  }

  async function lacking(context: TestContext): Promise<string> {
    const path = logPath(context);
    const before = embeddedLog(path);
    await before.createTopic('gradients');
    await before.produce('gradients', texts(5));
    await before.close();
    copyFileSync(path, `${path}-older`);
    const log = embeddedLog(path);
    await log.produce('gradients', texts(3, 5));
    await log.close();
    renameSync(`${path}-older`, path);
    return path;
  }

  it('miss what an older copy lacks', async (context) => {
    const path = await lacking(context);
    expect(() => embeddedLog(path)).toThrow('gradients/0: it ends at offset 5, but the records up to 8 were acknowledged');
  });

  it('only tell what a loss of power has taken from who did not wait for the disk', async (context) => {
    const path = await lacking(context);
    asAfterALossOfPower(path);
    const warned = once(process, 'warning');
    expect(await opened(context, path).endOffsets('gradients')).toEqual([5]);
    expect(((await warned)[0] as Error).message).toMatch(
      /gradients\/0: the last 3 records were lost: their producer did not wait/,
    );
  });

  it('are not believed where they are of another log, or damaged', async (context) => {
    const path = await lacking(context);
    const ends = readFileSync(`${path}-ends`);
    ends[32]! ^= 1;
    writeFileSync(`${path}-ends`, ends);
    expect(await opened(context, path).endOffsets('gradients')).toEqual([5]);
    const other = logPath(context);
    copyFileSync(`${path}-ends`, `${other}-ends`);
    await opened(context, other).createTopic('gradients');
    expect(await opened(context, other).endOffsets('gradients')).toEqual([0]);
  });
});

describe('a log of format 1', () => {
  function old(path: string): void {
    const database = new DatabaseSync(path);
    database.exec(`
      PRAGMA page_size = 16384; PRAGMA journal_mode = WAL;
      CREATE TABLE partitions (id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL, UNIQUE (topic, partition));
      CREATE TABLE acknowledged (
        group_name TEXT, topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (group_name, topic, partition)
      ) WITHOUT ROWID;
      PRAGMA application_id = ${0x52784731};
      PRAGMA user_version = 1;
      CREATE TABLE compacted (topic TEXT PRIMARY KEY) WITHOUT ROWID;
      CREATE TABLE writers (id TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
    `);
    for (const [id, topic] of [
      [1, 'gradients'],
      [2, 'checkpoints'],
    ] as const) {
      database.prepare('INSERT INTO partitions VALUES (?, ?, 0)').run(id, topic);
      database.exec(
        `CREATE TABLE records_${id} (offset INTEGER PRIMARY KEY, key BLOB, value BLOB, headers TEXT, timestamp_ms INTEGER NOT NULL)`,
      );
      for (let offset = 0; offset < 3; offset++) {
        const key = Buffer.from(`k${offset}`);
        database
          .prepare(`INSERT INTO records_${id} VALUES (?, ?, ?, ?, ?)`)
          .run(offset, key, Buffer.from(`v${offset}`), '{"a":"b"}', 7);
      }
    }
    database.exec(`
      INSERT INTO compacted VALUES ('checkpoints'); CREATE INDEX keys_2 ON records_2 (key);
      INSERT INTO acknowledged VALUES ('trainer', 'gradients', 0, 2); INSERT INTO writers VALUES ('w', 4);
    `);
    database.close();
  }

  it('goes on with its records, groups and writers, and checks what is new', async (context) => {
    const path = logPath(context);
    old(path);
    const log = opened(context, path);
    await log.produce('gradients', texts(2));
    await log.produce('checkpoints', [{ key: 'k1', value: Buffer.from('new') }]);
    expect((await recordsOf(log, 'gradients')).map(({ offset, headers }) => [offset, headers.a ?? 'new'])).toEqual([
      [0, 'b'],
      [1, 'b'],
      [2, 'b'],
      [3, 'new'],
      [4, 'new'],
    ]);
    expect((await recordsOf(log, 'checkpoints')).map(({ offset }) => offset)).toEqual([0, 2, 3]);
    const collector = await collect(context, log, { topic: 'gradients', group: 'trainer' });
    await collector.until(3);
    expect(collector.delivered[0]!.offset).toBe(2);
    const database = new DatabaseSync(path);
    context.onTestFinished(() => database.close());
    expect(database.prepare('SELECT epoch FROM writers').get()).toEqual({ epoch: 4 });
    expect(database.prepare('PRAGMA user_version').get()).toEqual({ user_version: 2 });
    database.exec('UPDATE partition_1 SET checksum = NULL WHERE offset = 3');
    await expect(recordsOf(log, 'gradients')).rejects.toThrow('gradients/0@3: expected a record whose CRC-32 is null');
  });

  it('is no log any more for what writes format 1', async (context) => {
    const path = logPath(context);
    old(path);
    const database = new DatabaseSync(path);
    context.onTestFinished(() => database.close());
    const insert = database.prepare('INSERT INTO records_1 VALUES (?, NULL, NULL, NULL, 0)');
    opened(context, path);
    expect(() => insert.run(3)).toThrow('no such table: records_1');
  });
});

function caught(action: () => unknown): unknown {
  try {
    return action();
  } catch (error) {
    return error;
  }
}
