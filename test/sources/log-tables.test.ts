import { appendFileSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { type EmbeddedLogOptions, embeddedLog } from '../../src/sources/embedded-log.ts';
import { LogEnds } from '../../src/sources/log-ends.ts';
import { readAll } from '../../src/sources/read-all.ts';
import type { NewRecord, Transport } from '../../src/sources/transport.ts';
import { WatchedFile } from '../../src/sources/watched-file.ts';

let path = '';
beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), 'rxgrad-tables-'));
  path = join(folder, 'log');
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
});

function opened(): Transport {
  const log = embeddedLog(path);
  onTestFinished(() => log.close());
  return log;
}

/** A closed log with two partitions of four records each, and a compacted topic. */
async function fill(): Promise<void> {
  const log = embeddedLog(path);
  await log.createTopic('g', { partitions: 2 });
  await log.createTopic('c', { compacted: true });
  for (const partition of [0, 1]) {
    const records = Array.from({ length: 4 }, (_, i) => ({ partition, value: Buffer.from(`${i}`), headers: { a: 'b' } }));
    await log.produce('g', records);
  }
  await log.produce('c', [{ key: 'k', value: Buffer.from('v') }]);
  const consumption = await log.consume({ topic: 'g', group: 'a', deliver: () => {}, onError: () => {} });
  consumption.acknowledge({ topic: 'g', partition: 1, offset: 2 });
  await consumption.stop();
  await (await log.writer('w')).close();
  await log.close();
}

function change(sql: string): void {
  const database = new DatabaseSync(path);
  database.exec(sql);
  database.close();
}

const damaged = (words: string) => expect.objectContaining({ key: 'damagedLog', message: expect.stringContaining(words) });

async function offsetsOf(log: Transport, from: number, partition = 1): Promise<number[]> {
  const offsets: number[] = [];
  const options = { from: new Map([[partition, from]]), partitions: [partition] };
  await readAll(log, 'g', options, ({ offset }) => void offsets.push(offset));
  return offsets;
}

describe('a log whose tables are others than it wrote', () => {
  it.each<[string, string, string]>([
    ['lack a partition', 'DELETE FROM partitions WHERE id = 2', 'topic "g" has 2 partitions, but 1 of them are listed'],
    ['have one too many', 'UPDATE topics SET partitions = 1', 'a row of its table "topics" has checksum'],
    [
      'have a partition of another topic',
      "UPDATE partitions SET topic = 'c' WHERE id = 1",
      'its table "partitions" has checksum',
    ],
    ['have no id', 'DELETE FROM log', 'expected one row in its table "log", got none'],
    ['have two ids', "INSERT INTO log VALUES ('x', 1)", 'expected one row in its table "log", got more'],
    ['have another id', "UPDATE log SET id = 'x'", 'a row of its table "log" has checksum'],
    ['have another column', 'ALTER TABLE writers ADD COLUMN more', 'expected the table or index "writers" as it was created'],
    ['lack one of records', 'DROP TABLE partition_2', 'expected the table or index "partition_2" as it was created'],
    ['have others of records', 'ALTER TABLE partition_2 ADD COLUMN more', 'the table or index "partition_2" as it was created'],
    ['lack the index of keys', 'DROP INDEX keys_3', 'expected the table or index "keys_3" as it was created'],
  ])('is refused when it is opened, where they %s', async (_, sql, words) => {
    await fill();
    change(sql);
    expect(() => embeddedLog(path)).toThrow(damaged(words));
  });

  it('is refused where a group or a writer is looked up that was changed', async () => {
    await fill();
    change('UPDATE acknowledged SET next = 4; UPDATE writers SET epoch = 9');
    const log = opened();
    const consuming = log.consume({ topic: 'g', group: 'a', deliver: () => {}, onError: () => {} });
    await expect(consuming).rejects.toEqual(damaged('a row of its table "acknowledged" has checksum'));
    await expect(log.writer('w')).rejects.toEqual(damaged('a row of its table "writers" has checksum'));
    await (await log.writer('other')).close();
    await (await log.consume({ topic: 'g', group: 'b', deliver: () => {}, onError: () => {} })).stop();
  });

  it.each<[string, string, string]>([
    ['the type of the key', "UPDATE partition_2 SET key = 'text' WHERE offset = 2", 'g/1@2: its row has fields of other types'],
    ['the type of the value', 'UPDATE partition_2 SET value = 5 WHERE offset = 2', 'g/1@2: its row has fields of other types'],
    [
      'the type of the headers',
      "UPDATE partition_2 SET headers = x'00' WHERE offset = 2",
      'g/1@2: its row has fields of other types',
    ],
    [
      'the type of the time',
      "UPDATE partition_2 SET timestamp_ms = 'noon' WHERE offset = 2",
      'g/1@2: its row has fields of other types',
    ],
    ['the value', "UPDATE partition_2 SET value = x'00' WHERE offset = 2", 'g/1@2: expected a record whose CRC-32 is'],
    ['the time', 'UPDATE partition_2 SET timestamp_ms = 5 WHERE offset = 2', 'g/1@2: expected a record whose CRC-32 is'],
    ['the place', 'UPDATE partition_2 SET offset = 7 WHERE offset = 3', 'g/1@7: expected a record whose CRC-32 is'],
    ['no value', 'UPDATE partition_2 SET value = NULL WHERE offset = 2', 'g/1@2: expected a record whose CRC-32 is'],
    ['none', 'DELETE FROM partition_2 WHERE offset = 2', 'g/1@2: the next record that is there is 3'],
  ])('is refused at the record where it is another: %s', async (_, sql, words) => {
    await fill();
    change(sql);
    const log = opened();
    await expect(offsetsOf(log, 0)).rejects.toEqual(damaged(words));
    expect(await offsetsOf(log, 0, 0)).toEqual([0, 1, 2, 3]);
  });

  it('is missed the end that it had, while it is open', async () => {
    await fill();
    const log = opened();
    expect(await log.endOffsets('g')).toEqual([4, 4]);
    change('DELETE FROM partition_2 WHERE offset > 1');
    await expect(log.endOffsets('g')).rejects.toEqual(damaged('g/1: it ends at offset 2, but the records up to 4 were'));
    await expect(log.recordAt!('g', 1, 2)).rejects.toEqual(damaged('g/1: it ends at offset 2, but the records up to 4 were'));
    await expect(log.produce('g', [{ partition: 1, value: null }])).rejects.toEqual(damaged('it ends at offset 2'));
  });

  it('may have let go of its first records', async () => {
    await fill();
    const log = opened();
    change('DELETE FROM partition_2 WHERE offset < 2');
    expect(await log.startOffsets('g')).toEqual([0, 2]);
    expect(await offsetsOf(log, 2)).toEqual([2, 3]);
    await expect(log.recordAt!('g', 1, 1)).rejects.toMatchObject({
      key: 'offsetOutOfRange',
      details: { first: 2, last: 4, got: 1 },
    });
  });
});

describe('a log', () => {
  it('that is refused is not left open', () => {
    const closed = vi.spyOn(DatabaseSync.prototype, 'close');
    onTestFinished(() => void closed.mockRestore());
    const other = new DatabaseSync(path);
    other.exec('CREATE TABLE users (id INTEGER)');
    expect(() => embeddedLog(path)).toThrow('another SQLite database');
    expect(closed).toHaveBeenCalledOnce();
    other.close();
  });

  it.each<[EmbeddedLogOptions, RegExp]>([
    [{ synchronous: 'off' as never }, /synchronous: expected "full" or "normal", got off/],
    [{ pollIntervalMs: 0 }, /pollIntervalMs: expected a number from 1, got 0/],
    [{ pollIntervalMs: Number.NaN }, /pollIntervalMs: expected a number from 1/],
    [{ lockTimeoutMs: -1 }, /lockTimeoutMs: expected a number from 0, got -1/],
  ])('is not opened with %o', (options, message) => {
    expect(() => embeddedLog(path, options)).toThrow(message);
    expect(() => statSync(path)).toThrow();
  });

  it.each<EmbeddedLogOptions>([{ pollIntervalMs: 1 }, { lockTimeoutMs: 0 }, { synchronous: 'normal' }])(
    'is with %o',
    async (options) => {
      const log = embeddedLog(path, options);
      await log.createTopic('g');
      expect(await log.endOffsets('g')).toEqual([0]);
      await log.close();
      await log.close();
    },
  );

  it('refuses records that no file of SQLite holds, keys that a compacted topic needs, and keeps nothing of their call', async () => {
    await fill();
    const log = opened();
    const huge = { length: 900_000_001 } as Uint8Array;
    const refused = { key: 'oversizedRecord', details: { where: 'g', expected: 900_000_000, got: 900_000_001 } };
    await expect(log.produce('g', [{ value: null }, { value: huge }])).rejects.toMatchObject(refused);
    const writer = await log.writer('x');
    await expect(writer.write([{ topic: 'g', value: huge }])).rejects.toMatchObject(refused);
    await expect(writer.write([{ topic: 'c', value: null }])).rejects.toThrow('expected one, since "c" is compacted');
    expect(await log.endOffsets('g')).toEqual([4, 4]);
  });

  it('keeps what was handed to it before a writer wrote, in that order', async () => {
    await fill();
    const log = opened();
    const writer = await log.writer('x');
    const calls = [
      log.produce('g', [{ value: Buffer.from('first') }]),
      writer.write([{ topic: 'g', value: Buffer.from('second') }]),
    ];
    expect((await Promise.all(calls)).flat().map(({ offset }) => offset)).toEqual([4, 5]);
  });

  it('keeps what was handed to it before it is closed, and takes nothing after', async () => {
    await fill();
    const log = embeddedLog(path);
    const last = log.produce('g', [{ value: Buffer.from('last') }]);
    await log.close();
    expect(await last).toMatchObject([{ offset: 4 }]);
    expect(await opened().endOffsets('g')).toEqual([5, 4]);
    await expect(log.produce('g', [{ value: null }])).rejects.toMatchObject({ key: 'transportFailed' });
  });

  it('reads about eight MiB at once, and a thousand records at most', async () => {
    const log = embeddedLog(path, { synchronous: 'normal' });
    onTestFinished(() => log.close());
    await log.createTopic('g');
    const sizes: number[] = [];
    const produce = (records: NewRecord[]) => log.produce('g', records);
    await produce(Array.from({ length: 5 }, () => ({ value: new Uint8Array(3 << 20) })));
    await produce(Array.from({ length: 1200 }, () => ({ value: null })));
    const over = Promise.withResolvers<void>();
    const consumption = await log.consume({
      topic: 'g',
      from: 'beginning',
      deliver: (_, __, records) => void sizes.push(records.length),
      onReached: () => over.resolve(),
      onError: over.reject,
    });
    await over.promise;
    await consumption.stop();
    expect(sizes).toEqual([3, 1000, 202]);
  });

  it('made by two at the same time is one', async () => {
    const [first, second] = [opened(), opened()];
    await first.createTopic('g');
    expect(await second.endOffsets('g')).toEqual([0]);
  });
});

describe('the ends that are kept beside a log', () => {
  const ends = (id = 'log', synchronous: 'full' | 'normal' = 'full') => {
    const one = new LogEnds(path, id, synchronous);
    onTestFinished(() => one.close());
    return one;
  };

  it('are read as they were written, by partition', () => {
    const file = ends();
    expect([file.path, file.read(0)]).toEqual([`${path}-ends`, null]);
    file.write(1, 2 ** 40);
    file.write(3, 7);
    expect([0, 1, 2, 3, 4].map((id) => ends().read(id)?.end)).toEqual([undefined, 2 ** 40, undefined, 7, undefined]);
    file.write(1, 5);
    expect(ends().read(1)).toEqual({ end: 5, mayBeLess: false });
  });

  it('are not believed of another log, of another partition, or where a byte is another', () => {
    ends().write(1, 5);
    expect(ends('other').read(1)).toBeNull();
    const bytes = readFileSync(`${path}-ends`);
    writeFileSync(`${path}-ends`, Buffer.concat([bytes.subarray(32), bytes.subarray(32)]));
    expect([ends().read(0), ends().read(1)]).toEqual([null, { end: 5, mayBeLess: false }]);
    for (const at of [32, 40, 44, 60]) {
      const changed = Buffer.from(bytes);
      changed[at]! ^= 1;
      writeFileSync(`${path}-ends`, changed);
      expect(ends().read(1)).toBeNull();
    }
    truncateSync(`${path}-ends`, 63);
    expect(ends().read(1)).toBeNull();
  });

  it('may be less after a loss of power alone, of who did not wait for the disk', () => {
    ends('log', 'normal').write(1, 5);
    expect(ends().read(1)).toEqual({ end: 5, mayBeLess: false });
  });
});

describe('a file that is watched', () => {
  const most = () => Number.POSITIVE_INFINITY;

  it('may grow, and shrink to what is enough', () => {
    writeFileSync(path, 'x'.repeat(10));
    const watched = new WatchedFile(path);
    expect(watched.problem(most)).toBeNull();
    appendFileSync(path, 'y');
    expect(watched.problem(most)).toBeNull();
    truncateSync(path, 6);
    expect(watched.problem(() => 6)).toBeNull();
    truncateSync(path, 5);
    expect(watched.problem(() => 6)).toBe(`${path} was cut off while it was open, from 6 bytes to 5`);
    // It stays cut off.
    expect(watched.problem(() => 6)).toBe(`${path} was cut off while it was open, from 6 bytes to 5`);
  });

  it('is missed where it was deleted, or replaced', () => {
    writeFileSync(path, 'x');
    const watched = new WatchedFile(path);
    writeFileSync(`${path}-2`, 'x');
    rmSync(path);
    expect(watched.problem(most)).toBe(`${path} was deleted, or moved, while it was open`);
    renameSync(`${path}-2`, path);
    expect(watched.problem(most)).toBe(`${path} was replaced while it was open`);
  });
});
