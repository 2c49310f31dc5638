import { randomUUID } from 'node:crypto';
import * as v from 'valibot';
import { RxgradError } from '../errors.ts';
import { count, parseOptions } from '../options.ts';
import type { NewRecord, Transport } from '../sources/transport.ts';
import { type AbandonedCourse, type CheckpointEntry, type CheckpointStore, notOwner, superseded } from './checkpoint-store.ts';
import { CheckpointTopic } from './checkpoint-topic.ts';
import { type CheckpointIndex, encodedHead, type Held, keysOf } from './kafka-checkpoint-index.ts';
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
 * head, which is written last, tells how many there are; what has no head, or not all of its records, is not there. Each time that a
 * version is written its records have other keys, so one that is written over stays whole until the new one is.
 *
 * @example
 * const store = new KafkaCheckpoints(transport, { topic: 'checkpoints', model: 'ranking' });
 */
export class KafkaCheckpoints implements CheckpointStore {
  readonly name: string;
  readonly #options: v.InferOutput<typeof schema>;
  readonly #log: CheckpointTopic;
  readonly #keys: ReturnType<typeof keysOf>;

  constructor(transport: Transport, options: KafkaCheckpointsOptions) {
    this.#options = parseOptions(schema, options, 'KafkaCheckpoints');
    this.#log = new CheckpointTopic(transport, this.#options);
    this.#keys = keysOf(this.#options.model);
    this.name = this.#nameOf(this.#options.model);
  }

  get tookOver(): boolean {
    return this.#log.tookOver;
  }

  /** Of stores with a transactional id: those without have no owner. */
  async takeOver(): Promise<void> {
    await this.#log.takeOver();
  }

  async list(): Promise<CheckpointEntry[]> {
    const { heads, pins } = await this.#log.look();
    const entries = [...heads.values()].map(({ version, bytes, savedAtMs }) => {
      return { version, bytes, savedAtMs, pinned: pins.has(version) };
    });
    return entries.sort((a, b) => b.version - a.version);
  }

  async read(version: number): Promise<Uint8Array> {
    for (;;) {
      const index = await this.#log.look();
      const head = index.heads.get(version);
      if (!head) throw this.#failure(`reading version ${version}`, 'it is not there');
      const parts = await this.#parts(index, head);
      const isWhole = parts.every((part) => part !== undefined);
      const file = Buffer.concat(parts.filter((part) => part !== undefined));
      if (isWhole && file.byteLength === head.bytes) return file;
      // It may have been written over, or removed, while it was read.
      if ((await this.#log.look()).heads.get(version)?.id !== head.id) continue;
      throw this.#broken(version, isWhole ? `${file.byteLength} bytes` : 'some of its records are missing');
    }
  }

  async #parts(index: CheckpointIndex, head: Held): Promise<(Uint8Array | undefined)[]> {
    const parts: (Uint8Array | undefined)[] = Array.from({ length: head.chunks });
    const first = index.partsOf(head.id).reduce((least, { offset }) => Math.min(least, offset), Number.POSITIVE_INFINITY);
    if (first === Number.POSITIVE_INFINITY) return parts;
    await this.#log.read(first, (record) => {
      const part = index.partOf(record);
      if (part?.id === head.id && part.version === head.version) parts[part.number] = record.value!;
    });
    return parts;
  }

  async write(version: number, file: Uint8Array): Promise<void> {
    this.#requireOwner(`writing version ${version}`);
    const { chunkBytes, keep } = this.#options;
    const id = randomUUID();
    const chunks = Math.ceil(file.byteLength / chunkBytes);
    const records: NewRecord[] = Array.from({ length: chunks }, (_, i) => ({
      key: this.#keys.part(version, id, i),
      value: file.subarray(i * chunkBytes, (i + 1) * chunkBytes),
    }));
    await this.#log.look();
    const head = encodedHead({ id, bytes: file.byteLength, chunks });
    const begin = await this.#log.append([...records, { key: this.#keys.head(version), value: head }]);
    await assertReadBack(this, version, file).catch(async (error) => {
      // A newer owner may have removed it: whoever is fenced fails with that, at a mark that takes nothing away.
      await this.#log.append([{ key: this.#keys.part(version, id, chunks), value: null }]);
      // Another member of a group may have written newer ones since, and removed it, or its records as left over (see `leftovers`).
      if ((await this.#log.look()).heads.get(version)?.id === id) await this.remove(version);
      const versions = (await this.list()).map((entry) => entry.version);
      if (versions.includes(version) || !versions.some((other) => other > version)) throw error;
    });
    await this.#removeUnlessPinned(superseded(await this.list(), keep));
    await this.#takeAway((await this.#log.look()).leftovers(version, begin));
  }

  /** Another process may pin a version until the last moment: the log tells which of both was first. */
  async #removeUnlessPinned(versions: readonly number[]): Promise<void> {
    if (versions.length === 0) return;
    await this.#log.append(
      versions.map((version) => ({ key: this.#keys.removed(version), value: Buffer.from('unless pinned') })),
    );
  }

  async remove(version: number): Promise<void> {
    this.#requireOwner(`removing version ${version}`);
    const index = await this.#log.look();
    const head = index.heads.get(version);
    if (!head) return;
    await this.#takeAway([
      this.#keys.head(version),
      ...(index.pins.has(version) ? [this.#keys.pin(version)] : []),
      ...(index.marked.has(version) ? [this.#keys.removed(version)] : []),
      ...index.partsOf(head.id).map(({ key }) => key),
    ]);
  }

  async #takeAway(keys: readonly string[]): Promise<void> {
    if (keys.length > 0) await this.#log.append(keys.map((key) => ({ key, value: null })));
  }

  /** Also of a store that another one owns: a pin is no transaction, so it takes nothing over. Fails where it comes too late. */
  async pin(version: number, pinned: boolean): Promise<void> {
    const what = `pinning version ${version}`;
    const { heads, marked } = await this.#log.look();
    if (!heads.has(version)) throw this.#failure(what, 'it is not there');
    // Of a removal that came to nothing, since the version was pinned: after compaction nobody could tell that any more.
    const mark = marked.has(version) ? [{ key: this.#keys.removed(version), value: null }] : [];
    const key = this.#keys.pin(version);
    await this.#log.appendOpenly([...mark, { key, value: pinned ? Buffer.from('pinned') : null }]);
    if (!pinned) return;
    const after = await this.#log.look();
    if (after.heads.has(version) && this.#log.isSeen) return;
    await this.#log.appendOpenly([{ key, value: null }]);
    throw this.#failure(
      what,
      after.heads.has(version)
        ? 'an open transaction in its topic hides whether it is being removed. Try again'
        : 'it was removed at the same time',
    );
  }

  /** Under another model's name, which a store can be opened for. */
  async setAside(versions: readonly number[]): Promise<string> {
    this.#requireOwner('setting versions aside');
    const index = await this.#log.look();
    const course = 1 + [...index.abandoned.keys()].reduce((most, number) => Math.max(most, number), 0);
    const model = index.courseName(course);
    const keys = keysOf(model);
    for (const version of versions) {
      const head = index.heads.get(version);
      if (!head) continue;
      // Those that are there: what is not whole is set aside as it is.
      const records = (await this.#parts(index, head)).flatMap((value, i): NewRecord[] =>
        value ? [{ key: keys.part(version, head.id, i), value }] : [],
      );
      const marks: NewRecord[] = index.pins.has(version) ? [{ key: keys.pin(version), value: Buffer.from('pinned') }] : [];
      await this.#log.append([...records, ...marks, { key: keys.head(version), value: encodedHead(head) }]);
      await this.remove(version);
    }
    return this.#nameOf(model);
  }

  async abandoned(): Promise<AbandonedCourse[]> {
    const index = await this.#log.look();
    return [...index.abandoned]
      .sort(([a], [b]) => a - b)
      .map(([number, heads]) => ({
        name: this.#nameOf(index.courseName(number)),
        entries: [...heads.values()]
          .map(({ version, bytes, savedAtMs }) => ({ version, bytes, savedAtMs, pinned: false }))
          .sort((a, b) => b.version - a.version),
      }));
  }

  #nameOf(model: string): string {
    return `checkpoints of "${model}" in topic ${this.#options.topic}`;
  }

  async close(): Promise<void> {
    await this.#log.close();
  }

  #requireOwner(what: string): void {
    if (!this.tookOver) throw notOwner(this.name, what);
  }

  #failure(what: string, problem: string): RxgradError {
    return new RxgradError('checkpointFailed', { store: this.name, what, problem });
  }

  #broken(version: number, got: string): RxgradError {
    return new RxgradError('invalidCheckpoint', { where: `${this.name}, version ${version}`, expected: 'all of its bytes', got });
  }
}
