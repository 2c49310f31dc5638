// biome-ignore-all lint/plugin: the rows that are spread are of small tables, with a column or five each.
import type { DatabaseSync } from 'node:sqlite';
import { RxgradError } from '../errors.ts';
import { newIdentity, rowChecksum } from './log-checksum.ts';

// "RxG1" in SQLite's header: tells an rxgrad log from any other database.
const applicationId = 0x52784731;
const schemaVersion = 2;

// Texts of one line: they are compared with what is in the file.
const smallTables = {
  log: 'CREATE TABLE log (id TEXT PRIMARY KEY, checksum INTEGER NOT NULL) WITHOUT ROWID',
  topics:
    'CREATE TABLE topics (topic TEXT PRIMARY KEY, id TEXT NOT NULL, compacted INTEGER NOT NULL, partitions INTEGER NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID',
  partitions:
    'CREATE TABLE partitions (id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL, checked_from INTEGER NOT NULL, checksum INTEGER NOT NULL)',
  acknowledged:
    'CREATE TABLE acknowledged (group_name TEXT, topic TEXT, partition INTEGER, next INTEGER NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (group_name, topic, partition)) WITHOUT ROWID',
  writers: 'CREATE TABLE writers (id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID',
};

const header = `PRAGMA application_id = ${applicationId}; PRAGMA user_version = ${schemaVersion}`;

/** The table of a partition's records, by the id of its row in `partitions`. Format 1 named it otherwise: what writes that format fails. */
export const recordsTable = (id: number): string => `partition_${id}`;
const keyIndex = (id: number): string => `keys_${id}`;

const recordsText = (id: number): string =>
  `CREATE TABLE "${recordsTable(id)}" (offset INTEGER PRIMARY KEY, key BLOB, value BLOB, headers TEXT, timestamp_ms INTEGER NOT NULL, checksum INTEGER)`;
const keyIndexText = (id: number): string => `CREATE INDEX ${keyIndex(id)} ON "${recordsTable(id)}" (key)`;

/** A topic as it was created. One that was deleted and made anew has another id. */
export interface TopicRow {
  readonly topic: string;
  readonly id: string;
  readonly compacted: boolean;
  readonly partitions: readonly PartitionRow[];
}

export interface PartitionRow {
  readonly id: number;
  /** The first offset whose record must have a checksum: those before are of a log of format 1. */
  readonly checkedFrom: number;
}

/** Writes the tables of a new log. */
export function createSchema(database: DatabaseSync): void {
  database.exec(`${Object.values(smallTables).join(';')}; ${header}`);
  const id = newIdentity();
  database.prepare('INSERT INTO log VALUES (?, ?)').run(id, rowChecksum(id));
}

/** Creates a topic and the tables of its partitions. */
export function insertTopic(database: DatabaseSync, topic: string, partitions: number, compacted: boolean): void {
  const id = newIdentity();
  const flag = Number(compacted);
  database
    .prepare('INSERT INTO topics VALUES (?, ?, ?, ?, ?)')
    .run(topic, id, flag, partitions, rowChecksum(topic, id, flag, partitions));
  for (let partition = 0; partition < partitions; partition++) {
    const table = numberOf(database, 'SELECT 1 + coalesce(max(id), 0) FROM partitions');
    insertPartition(database, table, topic, partition, 0);
    database.exec(recordsText(table));
    if (compacted) database.exec(keyIndexText(table));
  }
}

/** Every topic. A row that was changed is an error. */
export function readTopics(where: string, database: DatabaseSync): Map<string, TopicRow> {
  const lanes = new Map<string, PartitionRow[]>();
  for (const row of rowsOf(database, 'SELECT id, topic, partition, checked_from, checksum FROM partitions')) {
    const [id, topic, partition, checkedFrom] = checked(where, 'partitions', row) as [number, string, number, number];
    const list = lanes.get(topic) ?? [];
    list[partition] = { id, checkedFrom };
    lanes.set(topic, list);
  }
  const topics = new Map<string, TopicRow>();
  for (const row of rowsOf(database, 'SELECT topic, id, compacted, partitions, checksum FROM topics')) {
    const [topic, id, compacted, count] = checked(where, 'topics', row) as [string, string, number, number];
    const partitions = lanes.get(topic) ?? [];
    if (Object.keys(partitions).length !== count) {
      throw damaged(where, `topic "${topic}" has ${count} partitions, but ${Object.keys(partitions).length} of them are listed`);
    }
    topics.set(topic, { topic, id, compacted: compacted === 1, partitions });
  }
  return topics;
}

/** The identity of the log. */
export function readLogId(where: string, database: DatabaseSync): string {
  const [row, ...others] = rowsOf(database, 'SELECT id, checksum FROM log');
  if (!row || others.length > 0) throw damaged(where, `expected one row in its table "log", got ${row ? 'more' : 'none'}`);
  return String(checked(where, 'log', row)[0]);
}

/** Refuses what is no log, and one of a format that this version does not know. */
export function requireFormat(where: string, database: DatabaseSync): void {
  if (numberOf(database, 'PRAGMA application_id') !== applicationId) {
    const problem = 'expected an rxgrad log, got another SQLite database';
    throw new RxgradError('transportFailed', { transport: where, problem, advice: 'Give it a path of its own' });
  }
  const version = numberOf(database, 'PRAGMA user_version');
  if (version === 1 || version === schemaVersion) return;
  const problem = `expected a log of format 1 or ${schemaVersion}, got ${version}`;
  throw new RxgradError('transportFailed', { transport: where, problem, advice: 'Use the version of rxgrad that wrote it' });
}

/** Brings a log of an earlier format to this one, and refuses one whose tables are others than those that were created. */
export function requireTables(where: string, database: DatabaseSync): void {
  if (numberOf(database, 'PRAGMA user_version') === 1) inTransaction(database, () => upgrade(database));
  const texts = new Map(rowsOf(database, 'SELECT name, sql FROM sqlite_schema') as [string, string][]);
  const expected = (name: string, text: string): void => {
    if (texts.get(name) !== text)
      throw damaged(where, `expected the table or index "${name}" as it was created, got another one`);
  };
  for (const [name, text] of Object.entries(smallTables)) expected(name, text);
  readLogId(where, database);
  for (const { compacted, partitions } of readTopics(where, database).values()) {
    for (const { id } of partitions) {
      expected(recordsTable(id), recordsText(id));
      if (compacted) expected(keyIndex(id), keyIndexText(id));
    }
  }
}

/** Format 1 has no checksums and no identities. Its records stay as they are. */
function upgrade(database: DatabaseSync): void {
  // Another process may have been faster.
  if (numberOf(database, 'PRAGMA user_version') !== 1) return;
  database.exec(`
    CREATE TABLE IF NOT EXISTS compacted (topic TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS writers (id TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
    ALTER TABLE partitions RENAME TO old_partitions;
    ALTER TABLE acknowledged RENAME TO old_acknowledged;
    ALTER TABLE writers RENAME TO old_writers;
  `);
  createSchema(database);
  const compacted = new Set(rowsOf(database, 'SELECT topic FROM compacted').flat());
  const lanes = rowsOf(database, 'SELECT id, topic, partition FROM old_partitions') as [number, string, number][];
  for (const [topic, own] of Map.groupBy(lanes, ([, name]) => name)) {
    const [id, flag] = [newIdentity(), Number(compacted.has(topic))];
    database
      .prepare('INSERT INTO topics VALUES (?, ?, ?, ?, ?)')
      .run(topic, id, flag, own.length, rowChecksum(topic, id, flag, own.length));
  }
  for (const [id, topic, partition] of lanes) {
    database.exec(`ALTER TABLE records_${id} RENAME TO ${recordsTable(id)}`);
    database.exec(`ALTER TABLE ${recordsTable(id)} ADD COLUMN checksum INTEGER`);
    insertPartition(
      database,
      id,
      topic,
      partition,
      numberOf(database, `SELECT 1 + coalesce(max(offset), -1) FROM ${recordsTable(id)}`),
    );
  }
  for (const row of rowsOf(database, 'SELECT group_name, topic, partition, next FROM old_acknowledged')) {
    database.prepare('INSERT INTO acknowledged VALUES (?, ?, ?, ?, ?)').run(...row, rowChecksum(...row));
  }
  for (const row of rowsOf(database, 'SELECT id, epoch FROM old_writers')) {
    database.prepare('INSERT INTO writers VALUES (?, ?, ?)').run(...row, rowChecksum(...row));
  }
  database.exec('DROP TABLE old_partitions; DROP TABLE old_acknowledged; DROP TABLE old_writers; DROP TABLE compacted');
}

function insertPartition(database: DatabaseSync, id: number, topic: string, partition: number, checkedFrom: number): void {
  database
    .prepare('INSERT INTO partitions VALUES (?, ?, ?, ?, ?)')
    .run(id, topic, partition, checkedFrom, rowChecksum(id, topic, partition, checkedFrom));
}

/** A row without its last column, which is the checksum of the others. */
export function checked(where: string, table: string, row: readonly (string | number)[]): (string | number)[] {
  const values = row.slice(0, -1);
  const sum = rowChecksum(...values);
  if (sum !== row.at(-1))
    throw damaged(where, `a row of its table "${table}" has checksum ${row.at(-1)}, but its content ${sum}`);
  return values;
}

/** The error of a file, or a part of it, that is not what was written. */
export function damaged(where: string, problem: string): RxgradError {
  return new RxgradError('damagedLog', { where, problem });
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

function rowsOf(database: DatabaseSync, query: string): (string | number)[][] {
  const statement = database.prepare(query);
  statement.setReturnArrays(true);
  return statement.all() as unknown as (string | number)[][];
}

export function numberOf(database: DatabaseSync, query: string): number {
  return Number(Object.values(database.prepare(query).get() ?? {})[0]);
}
