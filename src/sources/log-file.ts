import { realpathSync } from 'node:fs';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { isRxgradError, RxgradError } from '../errors.ts';
import { headerReader, headerText } from './header-text.ts';
import { inTransaction, openLogDatabase } from './log-schema.ts';
import { closedTransport, type PartitionBounds } from './topic-bounds.ts';
import type { LogRecord, NewRecord, Position } from './transport.ts';

const bite = { records: 1000, bytes: 8 * 2 ** 20 };
const sqliteErrors = { busy: 5, notADatabase: 26 };

type Row = [offset: number, key: Uint8Array | null, value: Uint8Array | null, headers: string | null, timestampMs: number];

export interface Append {
  readonly topic: string;
  readonly records: readonly NewRecord[];
}

/** A writer as it was opened: another one under the same id has a higher epoch. */
export interface WriterEpoch {
  readonly id: string;
  readonly epoch: number;
}

interface Partition {
  readonly bounds: StatementSync;
  readonly insert: StatementSync;
  readonly select: StatementSync;
  /** Deletes what a record of a compacted topic supersedes. */
  readonly supersede: StatementSync | null;
  readonly headersOf: (text: string | null) => LogRecord['headers'];
}

/** One connection to the SQLite file of an embedded log: a table per partition, keyed by offset. */
export class LogFile {
  readonly name: string;
  readonly path: string;
  readonly #database: DatabaseSync;
  readonly #topics = new Map<string, Partition[]>();
  readonly #dataVersion: StatementSync;

  constructor(path: string, synchronous: 'full' | 'normal') {
    this.name = `Embedded log ${path}`;
    this.#database = this.#guarded(() => openLogDatabase(this.name, path, synchronous));
    this.path = realpathSync(path);
    this.#dataVersion = this.#prepare('PRAGMA data_version');
  }

  createTopic(topic: string, partitions: number, compacted: boolean): void {
    this.#guarded(() =>
      inTransaction(this.#database, () => {
        if (this.#tableIds(topic).length > 0) return;
        if (compacted) this.#prepare('INSERT INTO compacted (topic) VALUES (?)').run(topic);
        for (let partition = 0; partition < partitions; partition++) {
          const { lastInsertRowid: id } = this.#database
            .prepare('INSERT INTO partitions (topic, partition) VALUES (?, ?)')
            .run(topic, partition);
          this.#database.exec(
            `CREATE TABLE records_${id} (offset INTEGER PRIMARY KEY, key BLOB, value BLOB, headers TEXT, timestamp_ms INTEGER NOT NULL)`,
          );
          if (compacted) this.#database.exec(`CREATE INDEX keys_${id} ON records_${id} (key)`);
        }
      }),
    );
  }

  /** Appends all of them, or none, in one transaction, for a writer as long as it is the last; gives back the positions of each. */
  append(appends: readonly Append[], writer?: WriterEpoch): Position[][] {
    return this.#guarded(() =>
      inTransaction(this.#database, () => {
        if (writer && this.#epochOf(writer.id) !== writer.epoch) {
          throw new RxgradError('fenced', { transport: this.name, id: writer.id });
        }
        const timestampMs = Date.now();
        return appends.map(({ topic, records }) => {
          const partitions = this.#partitionsOf(topic);
          const ends = new Map<number, number>();
          return records.map(({ partition = 0, key: keyText, value, headers }): Position => {
            const { bounds, insert, supersede } = partitions[partition]!;
            const offset = ends.get(partition) ?? boundsOf(bounds).end;
            const key = bytesOf(keyText);
            ends.set(partition, offset + 1);
            insert.run(offset, key, value, headerText(headers), timestampMs);
            supersede?.run(key, offset);
            return { topic, partition, offset };
          });
        });
      }),
    );
  }

  /** Opens a writer, which fences the one before. */
  openWriter(id: string): WriterEpoch {
    return this.#guarded(() =>
      inTransaction(this.#database, () => {
        const epoch = this.#epochOf(id) + 1;
        this.#prepare('INSERT OR REPLACE INTO writers (id, epoch) VALUES (?, ?)').run(id, epoch);
        return { id, epoch };
      }),
    );
  }

  isCompacted(topic: string): boolean {
    return this.#guarded(() => this.#partitionsOf(topic)[0]!.supersede !== null);
  }

  partitionCount(topic: string): number {
    return this.#guarded(() => this.#partitionsOf(topic).length);
  }

  bounds(topic: string): PartitionBounds[] {
    return this.#guarded(() =>
      this.#partitionsOf(topic).map(({ bounds, supersede }) => {
        const held = boundsOf(bounds);
        // Its oldest records may have been superseded: its offsets still begin at 0.
        return supersede ? { ...held, first: 0 } : held;
      }),
    );
  }

  read(topic: string, partition: number, from: number): LogRecord[] {
    return this.#guarded(() => {
      const { select, headersOf } = this.#partitionsOf(topic)[partition]!;
      const records: LogRecord[] = [];
      let bytes = 0;
      for (const row of select.iterate(from, bite.records)) {
        const [offset, key, value, headers, timestampMs] = row as unknown as Row;
        records.push({ offset, key, value, headers: headersOf(headers), timestampMs });
        bytes += value?.length ?? 0;
        if (bytes >= bite.bytes) break;
      }
      return records;
    });
  }

  acknowledged(group: string, topic: string): Map<number, number> {
    return this.#guarded(() => {
      const rows = this.#prepare('SELECT partition, next FROM acknowledged WHERE group_name = ? AND topic = ?').all(group, topic);
      return new Map(rows as unknown as [number, number][]);
    });
  }

  acknowledge(group: string, topic: string, next: ReadonlyMap<number, number>): void {
    this.#guarded(() =>
      inTransaction(this.#database, () => {
        const write = this.#prepare(
          'INSERT OR REPLACE INTO acknowledged (group_name, topic, partition, next) VALUES (?, ?, ?, ?)',
        );
        for (const [partition, offset] of next) write.run(group, topic, partition, offset);
      }),
    );
  }

  /** A number that differs from the last one after another connection has written. */
  dataVersion(): number {
    return this.#guarded(() => (this.#dataVersion.get() as unknown as [number])[0]);
  }

  close(): void {
    if (this.#database.isOpen) this.#database.close();
  }

  #partitionsOf(topic: string): Partition[] {
    let partitions = this.#topics.get(topic);
    if (!partitions) {
      const compacted = this.#prepare('SELECT 1 FROM compacted WHERE topic = ?').get(topic) !== undefined;
      partitions = this.#tableIds(topic).map((id) => this.#partition(`records_${id}`, compacted));
      if (partitions.length === 0) throw new RxgradError('unknownTopic', { transport: this.name, topic });
      this.#topics.set(topic, partitions);
    }
    return partitions;
  }

  #partition(table: string, compacted: boolean): Partition {
    return {
      // Two subqueries: SQLite looks up min and max in the index only where they stand alone.
      bounds: this.#prepare(`SELECT (SELECT min(offset) FROM ${table}), (SELECT max(offset) FROM ${table})`),
      insert: this.#prepare(`INSERT INTO ${table} (offset, key, value, headers, timestamp_ms) VALUES (?, ?, ?, ?, ?)`),
      select: this.#prepare(
        `SELECT offset, key, value, headers, timestamp_ms FROM ${table} WHERE offset >= ? ORDER BY offset LIMIT ?`,
      ),
      supersede: compacted ? this.#prepare(`DELETE FROM ${table} WHERE key = ? AND offset < ?`) : null,
      headersOf: headerReader(),
    };
  }

  #epochOf(id: string): number {
    return (this.#prepare('SELECT epoch FROM writers WHERE id = ?').get(id) as unknown as [number] | undefined)?.[0] ?? 0;
  }

  #tableIds(topic: string): number[] {
    const rows = this.#prepare('SELECT id FROM partitions WHERE topic = ? ORDER BY partition').all(topic);
    return (rows as unknown as [number][]).map(([id]) => id);
  }

  #prepare(query: string): StatementSync {
    const statement = this.#database.prepare(query);
    statement.setReturnArrays(true);
    return statement;
  }

  #guarded<T>(action: () => T): T {
    if (this.#database && !this.#database.isOpen) throw closedTransport(this.name);
    try {
      return action();
    } catch (error) {
      if (isRxgradError(error) || !(error instanceof Error)) throw error;
      throw storageError(this.name, error);
    }
  }
}

function storageError(name: string, error: Error & { errcode?: number }): RxgradError {
  const details = (problem: string, advice: string) => ({ transport: name, problem, advice });
  switch (error.errcode) {
    case sqliteErrors.busy:
      return new RxgradError('transportInterrupted', details('another process holds its write lock', 'Try again'), {
        cause: error,
      });
    case sqliteErrors.notADatabase:
      return new RxgradError(
        'transportFailed',
        details('expected an rxgrad log, got a file of another kind', 'Give it a path of its own'),
        { cause: error },
      );
    default:
      return new RxgradError('transportFailed', details(error.message, 'Check its folder, its permissions and the free space'), {
        cause: error,
      });
  }
}

function boundsOf(statement: StatementSync): PartitionBounds {
  const [first, last] = statement.get() as unknown as [number | null, number | null];
  return { first: first ?? 0, end: last === null ? 0 : last + 1 };
}

function bytesOf(key: NewRecord['key']): Uint8Array | null {
  return typeof key === 'string' ? Buffer.from(key) : (key ?? null);
}
