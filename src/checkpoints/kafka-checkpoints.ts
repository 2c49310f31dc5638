import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import * as v from 'valibot';
import { RxgradError } from '../errors.ts';
import { count, parseOptions } from '../options.ts';
import { requireFit } from '../sources/check-topic.ts';
import { readAll } from '../sources/read-all.ts';
import type { NewRecord, Position, TransactionalWriter, Transport } from '../sources/transport.ts';
import { type AbandonedCourse, type CheckpointEntry, type CheckpointStore, notOwner, superseded } from './checkpoint-store.ts';
import { CheckpointIndex, encodedHead, type Held, textOf } from './kafka-checkpoint-index.ts';
import { assertReadBack } from './read-back.ts';

export interface KafkaCheckpointsOptions {
  /** A compacted topic; it is made where there is none. */
  readonly topic: string;
  /** Whose checkpoints these are: several models, or shards of one, share a topic. Default `'model'`. */
  readonly model?: string;
  /** How many are kept beside those that are pinned. Default 5. */
  readonly keep?: number;
  /** Bytes of a file in one record. Default 900,000: below the limit of a broker as it comes. */
  readonly chunkBytes?: number;
  /**
   * The transactional id under which the owner writes. It is opened by `takeOver()` (`recover` and `checkpoint` call it), which ends what the
   * owner before can do; `write`, `remove` and `setAside` before that fail with `notOwner`. Pins are written without it. Default: none; there
   * is no owner, records are seen one by one, and a checkpoint when its last one is.
   */
  readonly transactionalId?: string;
}

/** What a record has beside a chunk: key and headers, and what a batch of one record adds. */
const RECORD_OVERHEAD_BYTES = 2048;

const name = v.pipe(v.string(), v.regex(/^[^/]+$/, 'a name without "/"'));
const schema = v.strictObject({
  topic: v.pipe(v.string(), v.nonEmpty('a name')),
  model: v.optional(name, 'model'),
  keep: v.optional(count, 5),
  chunkBytes: v.optional(v.pipe(count, v.minValue(1024)), 900_000),
  transactionalId: v.optional(v.pipe(v.string(), v.nonEmpty('a name'))),
});

/**
 * Keeps checkpoints in a compacted topic of any transport: so another machine finds them. A file is cut into records, and its
 * head, which is written last, tells how many there are; what has no head, or not all of its records, is not there.
 *
 * @example
 * const store = new KafkaCheckpoints(transport, { topic: 'checkpoints', model: 'ranking' });
 */
export class KafkaCheckpoints implements CheckpointStore {
  readonly name: string;
  readonly #transport: Transport;
  readonly #options: v.InferOutput<typeof schema>;
  #writer: Promise<TransactionalWriter> | null = null;
  #created: Promise<void> | null = null;
  /** The offset after the last record that was written here. */
  #appended = 0;
  readonly #index: CheckpointIndex;

  constructor(transport: Transport, options: KafkaCheckpointsOptions) {
    this.#transport = transport;
    this.#options = parseOptions(schema, options, 'KafkaCheckpoints');
    this.#index = new CheckpointIndex(this.#options.model);
    this.name = this.#nameOf(this.#options.model);
  }

  get tookOver(): boolean {
    return this.#options.transactionalId === undefined || this.#writer !== null;
  }

  /** Of stores with a transactional id: those without have no owner. */
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
    await this.#append([{ key: `${model}/owner`, value: Buffer.from(JSON.stringify(owner)) }]);
  }

  async list(): Promise<CheckpointEntry[]> {
    const { heads, pins } = await this.#look();
    const entries = [...heads.values()].map(({ version, bytes, savedAtMs }) => {
      return { version, bytes, savedAtMs, pinned: pins.has(version) };
    });
    return entries.sort((a, b) => b.version - a.version);
  }

  async read(version: number): Promise<Uint8Array> {
    const head = (await this.#look()).heads.get(version);
    if (!head) throw this.#failure(`reading version ${version}`, 'it is not there');
    const parts = await this.#parts(head);
    if (parts.some((part) => part === undefined)) throw this.#broken(version, 'some of its records are missing');
    const file = Buffer.concat(parts as Uint8Array[]);
    if (file.byteLength !== head.bytes) throw this.#broken(version, `${file.byteLength} bytes`);
    return file;
  }

  async #parts(head: Held): Promise<(Uint8Array | undefined)[]> {
    const { version } = head;
    const { firsts } = this.#index;
    const parts: (Uint8Array | undefined)[] = Array.from({ length: head.chunks });
    const from = new Map([[0, firsts.get(head.id) ?? 0]]);
    await readAll(this.#transport, this.#options.topic, { from, partitions: [0] }, (record) => {
      // Of a version that was written several times, its head tells which records are meant.
      const part = this.#index.partOf(record);
      if (part?.version === version && record.value && textOf(record, 'id') === head.id) parts[Number(part.name)] = record.value;
    });
    return parts;
  }

  async write(version: number, file: Uint8Array): Promise<void> {
    this.#requireOwner(`writing version ${version}`);
    const { chunkBytes, keep } = this.#options;
    const id = randomUUID();
    const chunks = Math.ceil(file.byteLength / chunkBytes);
    const previous = (await this.#look()).heads.get(version);
    const records: NewRecord[] = Array.from({ length: chunks }, (_, i) => ({
      key: this.#key(version, String(i)),
      value: file.subarray(i * chunkBytes, (i + 1) * chunkBytes),
      headers: { id },
    }));
    const head = { key: this.#key(version, 'head'), value: encodedHead({ id, bytes: file.byteLength, chunks }) };
    await this.#append([...records, ...this.#without(version, chunks, previous?.chunks ?? 0), head]);
    await assertReadBack(this, version, file).catch(async (error) => {
      // A newer owner may have removed it: whoever is fenced fails with that, at a mark that takes nothing away.
      await this.#append(this.#without(version, chunks, chunks + 1));
      // Another member of a group may have written newer ones since, and removed it.
      if ((await this.#look()).heads.has(version) || !(await this.list()).some((entry) => entry.version > version)) throw error;
    });
    for (const old of superseded(await this.list(), keep)) await this.remove(old);
  }

  async remove(version: number): Promise<void> {
    this.#requireOwner(`removing version ${version}`);
    const { heads, pins } = await this.#look();
    const head = heads.get(version);
    if (!head) return;
    const marks = ['head', ...(pins.has(version) ? ['pin'] : [])].map((part) => ({ key: this.#key(version, part), value: null }));
    await this.#append([...marks, ...this.#without(version, 0, head.chunks)]);
  }

  /** Also of a store that another one owns: a pin is no transaction, so it takes nothing over. */
  async pin(version: number, pinned: boolean): Promise<void> {
    if (!(await this.#look()).heads.has(version)) throw this.#failure(`pinning version ${version}`, 'it is not there');
    await this.#append([{ key: this.#key(version, 'pin'), value: pinned ? Buffer.from('pinned') : null }], this.#send);
  }

  /** Under another model's name, which a store can be opened for. */
  async setAside(versions: readonly number[]): Promise<string> {
    this.#requireOwner('setting versions aside');
    const { heads, pins, abandoned } = await this.#look();
    const model = this.#index.courseName(1 + [...abandoned.keys()].reduce((most, course) => Math.max(most, course), 0));
    for (const version of versions) {
      const head = heads.get(version);
      if (!head) continue;
      // Those that are there: what is not whole is set aside as it is.
      const records = (await this.#parts(head)).flatMap((value, i): NewRecord[] =>
        value ? [{ key: `${model}/${version}/${i}`, value, headers: { id: head.id } }] : [],
      );
      const marks: NewRecord[] = pins.has(version) ? [{ key: `${model}/${version}/pin`, value: Buffer.from('pinned') }] : [];
      await this.#append([...records, ...marks, { key: `${model}/${version}/head`, value: encodedHead(head) }]);
      await this.remove(version);
    }
    return this.#nameOf(model);
  }

  async abandoned(): Promise<AbandonedCourse[]> {
    const { abandoned } = await this.#look();
    return [...abandoned]
      .sort(([a], [b]) => a - b)
      .map(([number, heads]) => ({
        name: this.#nameOf(this.#index.courseName(number)),
        entries: [...heads.values()]
          .map(({ version, bytes, savedAtMs }) => ({ version, bytes, savedAtMs, pinned: false }))
          .sort((a, b) => b.version - a.version),
      }));
  }

  #nameOf(model: string): string {
    return `checkpoints of "${model}" in topic ${this.#options.topic}`;
  }

  async close(): Promise<void> {
    await (await this.#writer)?.close();
  }

  /** Reads what has come since the last look. */
  async #look(): Promise<CheckpointIndex> {
    await this.#create();
    const { topic } = this.#options;
    const index = this.#index;
    let [end] = await this.#transport.endOffsets(topic);
    // What was written here lies after the end as long as a transaction of another model is open: for a minute at most.
    for (const start = performance.now(); end! < this.#appended && performance.now() - start < 60_000; ) {
      await delay(20);
      [end] = await this.#transport.endOffsets(topic);
    }
    if (end! > index.next) {
      const from = new Map([[0, Math.max(index.next, (await this.#transport.startOffsets(topic))[0]!)]]);
      const ends = await readAll(this.#transport, topic, { from, partitions: [0] }, (record) => this.#index.note(record));
      index.next = Math.max(index.next, ends[0]!);
    }
    return index;
  }

  async #append(records: NewRecord[], send = this.#sendAsOwner): Promise<void> {
    const positions = await send.call(this, records);
    this.#appended = positions.at(-1)!.offset + 1;
    // What was written here needs not be read again, up to the first record of another writer in between: that one may be a pin.
    for (const [i, { key = null, value, headers = {} }] of records.entries()) {
      const { offset } = positions[i]!;
      if (offset !== this.#index.next) return;
      this.#index.note({ key: Buffer.from(key!), value, headers, offset, timestampMs: Date.now() });
      this.#index.next = offset + 1;
    }
  }

  async #sendAsOwner(records: NewRecord[]): Promise<Position[]> {
    const { topic, transactionalId } = this.#options;
    if (transactionalId === undefined) return this.#send(records);
    return (await this.#writer)!.write(records.map((record) => ({ ...record, topic })));
  }

  /** One by one, so that no large request keeps the others waiting. */
  async #send(records: NewRecord[]): Promise<Position[]> {
    const positions: Position[] = [];
    for (const record of records) {
      const [position] = await this.#transport.produce(this.#options.topic, [record]);
      positions.push(position!);
    }
    return positions;
  }

  /** Takes records from..to of a version away. */
  #without(version: number, from: number, to: number): NewRecord[] {
    const count = Math.max(0, to - from);
    return Array.from({ length: count }, (_, i) => ({ key: this.#key(version, String(from + i)), value: null }));
  }

  #requireOwner(what: string): void {
    if (!this.tookOver) throw notOwner(this.name, what);
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

  #key(version: number, part: string): string {
    return `${this.#options.model}/${version}/${part}`;
  }

  #failure(what: string, problem: string): RxgradError {
    return new RxgradError('checkpointFailed', { store: this.name, what, problem });
  }

  #broken(version: number, got: string): RxgradError {
    return new RxgradError('invalidCheckpoint', { where: `${this.name}, version ${version}`, expected: 'all of its bytes', got });
  }
}
