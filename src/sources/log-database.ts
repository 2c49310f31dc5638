import { linkSync, rmSync, statSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { newIdentity } from './log-checksum.ts';
import {
  createSchema,
  damaged,
  inTransaction,
  numberOf,
  readTopics,
  recordsTable,
  requireFormat,
  requireTables,
} from './log-schema.ts';

// A gradient message fills a few pages: larger pages mean fewer of them, smaller ones less to write for one message.
const pageBytes = 16_384;
const checkpointPages = 2048;
// Opening may have to wait for another process that recovers the file, or upgrades it.
const openTimeoutMs = 10_000;
// The thread stands still for this long: whoever needs the lock for a write waits between such attempts (log-writes.ts).
const lockTimeoutMs = 10;
// About a second for each GiB in memory. Of a larger one, records are checked as they are read.
const mostCheckedBytes = 4 * 2 ** 30;

/** Opens the SQLite file of an embedded log, makes it where there is none, and refuses any other file, or one that is damaged. */
export function openLogDatabase(name: string, path: string, synchronous: 'full' | 'normal'): DatabaseSync {
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) createLog(path);
  if (found?.size === 0) throw damaged(name, 'the file is empty');
  const database = new DatabaseSync(path, { timeout: openTimeoutMs });
  try {
    // The checks come before any setting that writes to the file: it may be somebody else's.
    requireFormat(name, database);
    const whole = requireWhole(name, path, database);
    requireTables(name, database);
    if (!whole) requireIndexes(name, database);
    database.exec(`
      PRAGMA journal_mode = WAL; PRAGMA synchronous = ${synchronous}; PRAGMA wal_autocheckpoint = ${checkpointPages};
      PRAGMA cell_size_check = ON; PRAGMA busy_timeout = ${lockTimeoutMs}
    `);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** Makes a log beside its place and links it there: at no time is there a file that is half made. */
function createLog(path: string): void {
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
  const fresh = `${path}.${newIdentity()}.new`;
  try {
    const database = new DatabaseSync(fresh);
    try {
      database.exec(`PRAGMA page_size = ${pageBytes}; PRAGMA journal_mode = WAL`);
      inTransaction(database, () => createSchema(database));
    } finally {
      database.close();
    }
    linkSync(fresh, path);
  } catch (error) {
    // Another process made it at the same time.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    for (const suffix of ['', '-wal', '-shm']) rmSync(fresh + suffix, { force: true });
  }
}

/** Refuses a file that was cut off, and one in which SQLite finds something wrong. Tells whether it looked at all of it. */
function requireWhole(name: string, path: string, database: DatabaseSync): boolean {
  const bytes = numberOf(database, 'PRAGMA page_count') * numberOf(database, 'PRAGMA page_size');
  // What is in the write-ahead log comes to the file later.
  const settled = !statSync(`${path}-wal`, { throwIfNoEntry: false })?.size;
  const { size } = statSync(path);
  if (settled && size < bytes) throw damaged(name, `expected a file of ${bytes} bytes, got ${size}: it was cut off`);
  const whole = size <= mostCheckedBytes;
  if (whole) requireSound(name, database, '1');
  return whole;
}

/** A deletion by key believes the index: the tables of compacted topics are checked in any case. */
function requireIndexes(name: string, database: DatabaseSync): void {
  for (const { compacted, partitions } of readTopics(name, database).values()) {
    if (compacted) for (const { id } of partitions) requireSound(name, database, recordsTable(id));
  }
}

function requireSound(name: string, database: DatabaseSync, what: string): void {
  const [found] = Object.values(database.prepare(`PRAGMA integrity_check(${what})`).get() ?? {});
  if (found !== 'ok') throw damaged(name, `SQLite's integrity check found damage: ${String(found).replaceAll('\n', ' ')}`);
}
