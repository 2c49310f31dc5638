import type { DatabaseSync } from 'node:sqlite';
import { RxgradError } from '../errors.ts';

// "RxG1" in SQLite's header: tells an rxgrad log from any other database.
const applicationId = 0x52784731;
const schemaVersion = 1;
// A gradient message fills a few pages: larger pages mean fewer of them, smaller ones less to write for one message.
const pageBytes = 16_384;
const checkpointPages = 2048;
const lockTimeoutMs = 10_000;

const schema = `
  CREATE TABLE partitions (id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL, UNIQUE (topic, partition));
  CREATE TABLE acknowledged (
    group_name TEXT, topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (group_name, topic, partition)
  ) WITHOUT ROWID;
  PRAGMA application_id = ${applicationId};
  PRAGMA user_version = ${schemaVersion};
`;

// Of logs that were made before, too: nothing else reads them.
const additions = `
  CREATE TABLE IF NOT EXISTS compacted (topic TEXT PRIMARY KEY) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS writers (id TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
`;

/** Opens the SQLite file of an embedded log, makes it where there is none, and refuses any other file. */
export function openLogDatabase(name: string, path: string, synchronous: 'full' | 'normal'): DatabaseSync {
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
  const database = new DatabaseSync(path, { timeout: lockTimeoutMs });
  try {
    // The checks come before any setting that writes to the file: it may be somebody else's.
    if (isNew(database)) {
      database.exec(`PRAGMA page_size = ${pageBytes}; PRAGMA journal_mode = WAL`);
      inTransaction(database, () => {
        if (isNew(database)) database.exec(schema);
      });
    }
    requireLog(name, database);
    database.exec(
      `PRAGMA journal_mode = WAL; PRAGMA synchronous = ${synchronous}; PRAGMA wal_autocheckpoint = ${checkpointPages}`,
    );
    if (numberOf(database, "SELECT count(*) FROM sqlite_schema WHERE name = 'writers'") === 0) {
      inTransaction(database, () => database.exec(additions));
    }
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** Runs an action in a transaction that holds the write lock from its start: it cannot fail half way for lack of it. */
export function inTransaction<T>(database: DatabaseSync, action: () => T): T {
  database.exec('BEGIN IMMEDIATE');
  try {
    const result = action();
    database.exec('COMMIT');
    return result;
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}

function isNew(database: DatabaseSync): boolean {
  return numberOf(database, 'PRAGMA application_id') === 0 && numberOf(database, 'SELECT count(*) FROM sqlite_schema') === 0;
}

function requireLog(name: string, database: DatabaseSync): void {
  if (numberOf(database, 'PRAGMA application_id') !== applicationId) {
    const problem = 'expected an rxgrad log, got another SQLite database';
    throw new RxgradError('transportFailed', { transport: name, problem, advice: 'Give it a path of its own' });
  }
  const version = numberOf(database, 'PRAGMA user_version');
  if (version !== schemaVersion) {
    const problem = `expected a log of format ${schemaVersion}, got ${version}`;
    throw new RxgradError('transportFailed', { transport: name, problem, advice: 'Use the version of rxgrad that wrote it' });
  }
}

function numberOf(database: DatabaseSync, query: string): number {
  return Number(Object.values(database.prepare(query).get() ?? {})[0]);
}
