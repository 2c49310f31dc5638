import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { RxgradError } from '../errors.ts';
import { headerReader, headerText } from './header-text.ts';
import { recordChecksum, rowChecksum } from './log-checksum.ts';
import type { KnownEnd } from './log-ends.ts';
import { damaged, type PartitionRow, recordsTable, type TopicRow } from './log-schema.ts';
import type { PartitionBounds } from './topic-bounds.ts';
import type { LogRecord, NewRecord } from './transport.ts';

const bite = { records: 1000, bytes: 8 * 2 ** 20 };

/** The records of a partition in a table, keyed by offset. What is not what was appended is an error, whatever is asked for. */
export class LogPartition {
  readonly id: number;
  readonly #place: string;
  readonly #log: string;
  readonly #seed: number;
  readonly #checkedFrom: number;
  readonly #compacted: boolean;
  readonly #bounds: StatementSync;
  readonly #insert: StatementSync;
  readonly #select: StatementSync;
  /** Deletes what a record of a compacted topic supersedes. */
  readonly #supersede: StatementSync | null;
  readonly #headersOf = headerReader();
  /** It has been seen to end here, or behind it. */
  #knownEnd = 0;

  constructor(log: string, database: DatabaseSync, topic: TopicRow, partition: number, { id, checkedFrom }: PartitionRow) {
    const table = recordsTable(id);
    const prepare = (query: string): StatementSync => {
      const statement = database.prepare(query);
      statement.setReturnArrays(true);
      return statement;
    };
    this.id = id;
    this.#log = log;
    this.#place = `${topic.topic}/${partition}`;
    this.#seed = rowChecksum(topic.id, partition);
    this.#checkedFrom = checkedFrom;
    this.#compacted = topic.compacted;
    // Two subqueries: SQLite looks up min and max in the index only where they stand alone.
    this.#bounds = prepare(`SELECT (SELECT min(offset) FROM ${table}), (SELECT max(offset) FROM ${table})`);
    this.#insert = prepare(
      `INSERT INTO ${table} (offset, key, value, headers, timestamp_ms, checksum) VALUES (?, ?, ?, ?, ?, ?)`,
    );
    this.#select = prepare(
      `SELECT offset, key, value, headers, timestamp_ms, checksum FROM ${table} WHERE offset >= ? ORDER BY offset LIMIT ?`,
    );
    this.#supersede = topic.compacted ? prepare(`DELETE FROM ${table} WHERE key = ? AND offset < ?`) : null;
  }

  bounds(): PartitionBounds {
    const [first, last] = this.#bounds.get() as unknown as [number | null, number | null];
    const end = last === null ? 0 : last + 1;
    if (end < this.#knownEnd) throw this.#lost(end, this.#knownEnd);
    this.#knownEnd = end;
    // The oldest records of a compacted topic may have been superseded: its offsets still begin at 0.
    return { first: this.#compacted ? 0 : (first ?? 0), end };
  }

  noteEnd(end: number): void {
    this.#knownEnd = end;
  }

  /** Compares what it holds with what is known to have been acknowledged. */
  requireEnd({ end: known, mayBeLess }: KnownEnd, remedy: string): void {
    const { end } = this.bounds();
    if (end >= known) return;
    if (!mayBeLess) throw this.#lost(end, known, remedy);
    const where = `${this.#log}, ${this.#place}`;
    process.emitWarning(`${where}: the last ${known - end} records were lost: their producer did not wait for the disk`, {
      code: 'RXGRAD_LOG_RECORDS_LOST',
    });
  }

  append(offset: number, timestampMs: number, key: Uint8Array | null, { value, headers }: NewRecord): void {
    const text = headerText(headers);
    this.#insert.run(offset, key, value, text, timestampMs, recordChecksum(this.#seed, offset, timestampMs, key, value, text));
    this.#supersede?.run(key, offset);
  }

  /** Consecutive records from an offset on, as many as make a good bite. */
  read(from: number): LogRecord[] {
    const records: LogRecord[] = [];
    let [bytes, next] = [0, from];
    for (const row of this.#select.iterate(from, bite.records)) {
      const record = this.#record(row as unknown as unknown[], next);
      if (record.offset !== next && !this.#compacted) this.#refuseGap(next, record.offset);
      records.push(record);
      next = record.offset + 1;
      bytes += record.value?.length ?? 0;
      if (bytes >= bite.bytes) break;
    }
    if (records.length === 0 && from < this.#knownEnd && !this.#compacted) throw this.#lost(from, this.#knownEnd);
    return records;
  }

  #record(row: readonly unknown[], next: number): LogRecord {
    const [offset, key, value, headers, timestampMs, checksum] = row;
    if (!isNumber(offset) || !isNumber(timestampMs) || !isBytes(key) || !isBytes(value) || !isText(headers)) {
      throw this.#damaged(next, 'its row has fields of other types than what was appended');
    }
    if (checksum !== null || offset >= this.#checkedFrom) {
      const sum = recordChecksum(this.#seed, offset, timestampMs, key, value, headers);
      if (sum !== checksum) throw this.#damaged(offset, `expected a record whose CRC-32 is ${checksum}, got ${sum}`);
    }
    return { offset, key, value, headers: this.#headersOf(headers), timestampMs };
  }

  /** What is missing at the beginning was deleted; what is missing behind it was lost. */
  #refuseGap(next: number, found: number): void {
    const { first, end } = this.bounds();
    if (next < first) throw new RxgradError('offsetOutOfRange', { where: this.#place, first, last: end, got: next });
    throw this.#damaged(next, `the next record that is there is ${found}`);
  }

  #lost(end: number, known: number, remedy = ''): RxgradError {
    return damaged(
      `${this.#log}, ${this.#place}`,
      `it ends at offset ${end}, but the records up to ${known} were acknowledged${remedy}`,
    );
  }

  #damaged(offset: number, problem: string): RxgradError {
    return damaged(`${this.#log}, ${this.#place}@${offset}`, problem);
  }
}

const isNumber = (value: unknown): value is number => typeof value === 'number';
const isBytes = (value: unknown): value is Uint8Array | null => value === null || value instanceof Uint8Array;
const isText = (value: unknown): value is string | null => value === null || typeof value === 'string';
