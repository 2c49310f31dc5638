// biome-ignore-all lint/plugin: the rows that are spread are of small tables, with a column or five each.
import { realpathSync } from 'node:fs';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { RxgradError } from '../errors.ts';
import { rowChecksum } from './log-checksum.ts';
import { openLogDatabase } from './log-database.ts';
import { LogEnds } from './log-ends.ts';
import { storageError } from './log-errors.ts';
import { LogPartition } from './log-partition.ts';
import { checked, damaged, insertTopic, inTransaction, numberOf, readLogId, readTopics } from './log-schema.ts';
import { closedTransport, fencedWriter, type PartitionBounds } from './topic-bounds.ts';
import type { LogRecord, NewRecord, Position } from './transport.ts';
import { WatchedFile } from './watched-file.ts';

export interface Append {
  readonly topic: string;
  readonly records: readonly NewRecord[];
}

/** A writer as it was opened: another one under the same id has a higher epoch. */
export interface WriterEpoch {
  readonly id: string;
  readonly epoch: number;
}

interface Topic {
  readonly id: string;
  readonly compacted: boolean;
  readonly partitions: readonly LogPartition[];
}

/** One connection to the SQLite file of an embedded log. */
export class LogFile {
  readonly name: string;
  readonly path: string;
  readonly #database: DatabaseSync;
  readonly #ends: LogEnds;
  readonly #files: readonly WatchedFile[];
  readonly #topics = new Map<string, Topic>();
  readonly #dataVersion: StatementSync;

  constructor(path: string, synchronous: 'full' | 'normal') {
    this.name = `Embedded log ${path}`;
    this.#database = this.#guarded(() => openLogDatabase(this.name, path, synchronous));
    try {
      this.path = realpathSync(path);
      this.#files = ['', '-wal', '-shm'].map((suffix) => new WatchedFile(this.path + suffix));
      this.#dataVersion = this.#prepare('PRAGMA data_version');
      this.#ends = new LogEnds(this.path, readLogId(this.name, this.#database), synchronous);
      this.#guarded(() => this.#requireEnds());
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  createTopic(topic: string, partitions: number, compacted: boolean): void {
    this.#guarded(() =>
      inTransaction(this.#database, () => {
        if (!readTopics(this.name, this.#database).has(topic)) insertTopic(this.#database, topic, partitions, compacted);
      }),
    );
  }

  /** Appends all of them, or none, in one transaction, for a writer as long as it is the last; gives back the positions of each. */
  append(appends: readonly Append[], writer?: WriterEpoch): Position[][] {
    return this.#watched(() => {
      const ends = new Map<LogPartition, number>();
      const positions = inTransaction(this.#database, () => {
        if (writer && this.#epochOf(writer.id) !== writer.epoch) {
          throw fencedWriter(this.name, writer.id);
        }
        const timestampMs = Date.now();
        return appends.map(({ topic, records }) => {
          const { partitions } = this.#topic(topic);
          return records.map((record): Position => {
            const { partition = 0 } = record;
            const into = partitions[partition]!;
            const offset = ends.get(into) ?? into.bounds().end;
            into.append(offset, timestampMs, bytesOf(record.key), record);
            ends.set(into, offset + 1);
            return { topic, partition, offset };
          });
        });
      });
      for (const [partition, end] of ends) {
        partition.noteEnd(end);
        this.#ends.write(partition.id, end);
      }
      return positions;
    });
  }

  /** Opens a writer, which fences the one before. */
  openWriter(id: string): WriterEpoch {
    return this.#guarded(() =>
      inTransaction(this.#database, () => {
        const epoch = this.#epochOf(id) + 1;
        this.#prepare('INSERT OR REPLACE INTO writers VALUES (?, ?, ?)').run(id, epoch, rowChecksum(id, epoch));
        return { id, epoch };
      }),
    );
  }

  /** The identity of a topic: one that was made anew under its name has another. */
  topicId(topic: string): string {
    return this.#guarded(() => this.#topic(topic).id);
  }

  isCompacted(topic: string): boolean {
    return this.#guarded(() => this.#topic(topic).compacted);
  }

  partitionCount(topic: string): number {
    return this.#guarded(() => this.#topic(topic).partitions.length);
  }

  bounds(topic: string): PartitionBounds[] {
    return this.#watched(() => this.#topic(topic).partitions.map((partition) => partition.bounds()));
  }

  read(topic: string, partition: number, from: number): LogRecord[] {
    return this.#watched(() => this.#topic(topic).partitions[partition]!.read(from));
  }

  acknowledged(group: string, topic: string): Map<number, number> {
    return this.#guarded(() => {
      const rows = this.#prepare(
        'SELECT group_name, topic, partition, next, checksum FROM acknowledged WHERE group_name = ? AND topic = ?',
      ).all(group, topic) as unknown as (string | number)[][];
      return new Map(rows.map((row) => checked(this.name, 'acknowledged', row).slice(2) as [number, number]));
    });
  }

  acknowledge(group: string, topic: string, next: ReadonlyMap<number, number>): void {
    this.#guarded(() =>
      inTransaction(this.#database, () => {
        const write = this.#prepare('INSERT OR REPLACE INTO acknowledged VALUES (?, ?, ?, ?, ?)');
        for (const row of next) write.run(group, topic, ...row, rowChecksum(group, topic, ...row));
      }),
    );
  }

  /** A number that differs from the last one after another connection has written. */
  dataVersion(): number {
    return this.#watched(() => (this.#dataVersion.get() as unknown as [number])[0]);
  }

  close(): void {
    if (!this.#database.isOpen) return;
    this.#database.close();
    this.#ends.close();
  }

  #topic(name: string): Topic {
    const known = this.#topics.get(name);
    if (known) return known;
    const row = readTopics(this.name, this.#database).get(name);
    if (!row) throw new RxgradError('unknownTopic', { transport: this.name, topic: name });
    const partitions = row.partitions.map((one, i) => new LogPartition(this.name, this.#database, row, i, one));
    const topic = { id: row.id, compacted: row.compacted, partitions };
    this.#topics.set(name, topic);
    return topic;
  }

  #epochOf(id: string): number {
    const row = this.#prepare('SELECT id, epoch, checksum FROM writers WHERE id = ?').get(id);
    return row ? (checked(this.name, 'writers', row as unknown as (string | number)[])[1] as number) : 0;
  }

  #requireEnds(): void {
    const remedy = `. Where an older copy was brought back on purpose, remove ${this.#ends.path}`;
    for (const name of readTopics(this.name, this.#database).keys()) {
      for (const partition of this.#topic(name).partitions) {
        const known = this.#ends.read(partition.id);
        if (known) partition.requireEnd(known, remedy);
      }
    }
  }

  /** For what would go into nothing, or wait in vain, where the file was taken away. */
  #watched<T>(action: () => T): T {
    return this.#guarded(() => {
      this.#requireSameFiles();
      return action();
    });
  }

  #requireSameFiles(): void {
    for (const [i, file] of this.#files.entries()) {
      const problem = file.problem(i === 0 ? () => fewestBytes(this.#database) : () => 0);
      if (problem) throw damaged(this.name, problem);
    }
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
      throw storageError(this.name, error);
    }
  }
}

/** How many bytes the file has to have, at least. */
function fewestBytes(database: DatabaseSync): number {
  try {
    return numberOf(database, 'PRAGMA page_count') * numberOf(database, 'PRAGMA page_size');
  } catch {
    // SQLite has noticed, too.
    return Number.POSITIVE_INFINITY;
  }
}

function bytesOf(key: NewRecord['key']): Uint8Array | null {
  return typeof key === 'string' ? Buffer.from(key) : (key ?? null);
}
