import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { requireFit } from '../sources/check-topic.ts';
import { readAll } from '../sources/read-all.ts';
import type { LogRecord, NewRecord, Position, TransactionalWriter, Transport } from '../sources/transport.ts';
import { CheckpointIndex } from './kafka-checkpoint-index.ts';

export interface CheckpointTopicOptions {
  readonly topic: string;
  readonly model: string;
  /** Bytes of a file in one record. */
  readonly chunkBytes: number;
  readonly transactionalId?: string | undefined;
}

/** What was appended here is waited for so long where a transaction of another model hides it. */
const HIDDEN_MS = 60_000;

/** What a record has in addition to a chunk: key and headers, and what a batch of one record adds. */
const RECORD_OVERHEAD_BYTES = 2048;

/** The topic that checkpoints of a model are in: reads what others write to it, and appends. */
export class CheckpointTopic {
  readonly #transport: Transport;
  readonly #options: CheckpointTopicOptions;
  readonly #index: CheckpointIndex;
  #writer: Promise<TransactionalWriter> | null = null;
  #created: Promise<void> | null = null;
  /** The offset after the last record that was appended here. */
  #appended = 0;

  constructor(transport: Transport, options: CheckpointTopicOptions) {
    this.#transport = transport;
    this.#options = options;
    this.#index = new CheckpointIndex(options.model);
  }

  /** Whether the transactional id was opened here; without one there is no owner. */
  get tookOver(): boolean {
    return this.#options.transactionalId === undefined || this.#writer !== null;
  }

  /** Whether everything up to the last record that was appended here is known. */
  get isSeen(): boolean {
    return this.#index.next >= this.#appended;
  }

  async takeOver(): Promise<void> {
    const { transactionalId, model } = this.#options;
    if (transactionalId === undefined) return;
    await this.#create();
    const before = this.#writer;
    const opening = this.#transport.writer(transactionalId);
    this.#writer = opening;
    opening.catch(() => {
      if (this.#writer === opening) this.#writer = null;
    });
    await (await before?.catch(() => null))?.close();
    await opening;
    // Where this record can be seen, so can all that the owner before has written: an open transaction of another model hides both.
    const owner = { host: hostname(), pid: process.pid, since: new Date().toISOString() };
    await this.append([{ key: `${model}/owner`, value: Buffer.from(JSON.stringify(owner)) }]);
  }

  /** Reads what has come since the last look. */
  async look(): Promise<CheckpointIndex> {
    await this.#create();
    const { topic } = this.#options;
    const index = this.#index;
    let [end] = await this.#transport.endOffsets(topic);
    // What was written here lies after the end as long as a transaction of another model is open.
    for (const start = performance.now(); end! < this.#appended && performance.now() - start < HIDDEN_MS; ) {
      await delay(20);
      [end] = await this.#transport.endOffsets(topic);
    }
    if (end! > index.next) {
      const read = await this.read(index.next, (record) => this.#note(record));
      index.next = Math.max(index.next, read);
    }
    return index;
  }

  /** Reads all records from an offset on, or from the first that is held; gives back where the topic ends. */
  async read(from: number, onRecord: (record: LogRecord) => void): Promise<number> {
    const { topic } = this.#options;
    const [first] = await this.#transport.startOffsets(topic);
    const ends = await readAll(
      this.#transport,
      topic,
      { from: new Map([[0, Math.max(from, first!)]]), partitions: [0] },
      onRecord,
    );
    return ends[0]!;
  }

  /** Appends as the owner; gives back the offset of the first record. */
  async append(records: readonly NewRecord[]): Promise<number> {
    const { topic, transactionalId } = this.#options;
    if (transactionalId === undefined) return this.appendOpenly(records);
    const writer = (await this.#writer)!;
    return this.#noteOwn(records, await writer.write(records.map((record) => ({ ...record, topic }))));
  }

  /** Appends without an owner's rights: one by one, so that no large request keeps the others waiting. */
  async appendOpenly(records: readonly NewRecord[]): Promise<number> {
    const positions: Position[] = [];
    for (const record of records) {
      const [position] = await this.#transport.produce(this.#options.topic, [record]);
      positions.push(position!);
    }
    return this.#noteOwn(records, positions);
  }

  async close(): Promise<void> {
    await (await this.#writer)?.close();
  }

  /** What was appended here needs not be read again, up to the first record of another writer in between: that one may be a pin. */
  #noteOwn(records: readonly NewRecord[], positions: readonly Position[]): number {
    this.#appended = Math.max(this.#appended, positions.at(-1)!.offset + 1);
    for (const [i, { key = null, value, headers = {} }] of records.entries()) {
      const { offset } = positions[i]!;
      if (offset !== this.#index.next) break;
      this.#note({ key: Buffer.from(key!), value, headers, offset, timestampMs: Date.now() });
    }
    return positions[0]!.offset;
  }

  /** Once each, in their order, also where several look at the same time. */
  #note(record: LogRecord): void {
    if (record.offset < this.#index.next) return;
    this.#index.note(record);
    this.#index.next = record.offset + 1;
  }

  #create(): Promise<void> {
    this.#created ??= this.#ready().catch((error) => {
      this.#created = null;
      throw error;
    });
    return this.#created;
  }

  async #ready(): Promise<void> {
    const { topic, chunkBytes } = this.#options;
    await this.#transport.createTopic(topic, { compacted: true });
    await requireFit(this.#transport, topic, 'checkpoints', { recordBytes: chunkBytes + RECORD_OVERHEAD_BYTES });
  }
}
