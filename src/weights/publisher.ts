import { setTimeout as delay, setImmediate as eventLoopTurn } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { isRxgradError, RxgradError } from '../errors.ts';
import type { WeightsUpdate } from '../optimizers/weights-update.ts';
import type { Changes, Touched } from '../params/changes.ts';
import type { Parameters } from '../params/parameters.ts';
import { requireFit } from '../sources/check-topic.ts';
import type { Consumption, TopicRecord, TransactionalWriter, Transport } from '../sources/transport.ts';
import { cut, touchedBytes, type WeightsType } from './cut.ts';
import { nothingPublished, readPublished } from './published.ts';
import { assertReadable } from './readable.ts';
import { copyPieces } from './weights-file.ts';
import type { WeightsFacts } from './weights-header.ts';
import { headerOf, keyOf, requestType, weightsRecord } from './weights-record.ts';

export interface PublisherOptions {
  readonly topic: string;
  readonly model: string;
  readonly shard: number;
  readonly shards: number;
  readonly snapshotEvery: number;
  readonly dtype: WeightsType;
  readonly maxPartBytes: number;
  readonly requests?: string | undefined;
  /** Whether weights of another course of training may be followed by these. */
  readonly takeOver: boolean;
}

/** What was copied, to be encoded and sent. */
interface Copied {
  /** Which delta since the last snapshot it is, from 1; null for a snapshot. */
  readonly delta: number | null;
  readonly version: number;
  readonly parts: readonly (() => Uint8Array)[];
}

/** What a record has beside a part: key and headers, and what a batch of one record adds. */
const RECORD_OVERHEAD_BYTES = 2048;
const RETRY_MS = 100;
const MOST_RETRY_MS = 5000;
const MOST_RETRIES = 10;

/**
 * Publishes the weights of a shard, one publication after the other: copies them when it is asked to, between two steps, then
 * encodes and sends them. Every publication is a transaction.
 */
export class Publisher {
  readonly #transport: Transport;
  readonly #options: PublisherOptions;
  #writer: TransactionalWriter | null = null;
  #requests: Consumption | null = null;
  #partition = 0;
  #published = nothingPublished;
  #course = '';
  #served: Parameters | null = null;
  #changes: Changes | null = null;
  /** Deltas since the last snapshot; null before the first. */
  #deltas: number | null = null;
  #isAsked = false;
  #closed = false;

  constructor(transport: Transport, options: PublisherOptions) {
    this.#transport = transport;
    this.#options = options;
  }

  /**
   * Takes the id, so that nobody else goes on under it, and then sees what was published. Weights of another course of training are
   * not followed by those of `course`; whoever publishes them is not disturbed then.
   */
  async open(course: string, id: string, failed: (error: unknown) => void, requested: () => void): Promise<void> {
    const { topic, model, shard, requests, maxPartBytes } = this.#options;
    const transport = this.#transport;
    await transport.createTopic(topic, { compacted: true });
    await requireFit(transport, topic, 'weights', { recordBytes: maxPartBytes + RECORD_OVERHEAD_BYTES });
    this.#course = course;
    this.#partition = shard % (await transport.endOffsets(topic)).length;
    await this.#look();
    const writer = await transport.writer(id);
    this.#writer = writer;
    if (this.#closed) return writer.close();
    await this.#look();
    if (requests === undefined || this.#closed) return;
    const consumption = await transport.consume({
      topic: requests,
      from: 'end',
      deliver: (_, __, records) => {
        const ours = records.some(
          (record) => headerOf(record, 'ce_type') === requestType && headerOf(record, 'ce_subject') === model,
        );
        if (!ours) return;
        this.#isAsked = true;
        requested();
      },
      onError: failed,
    });
    this.#requests = consumption;
    if (this.#closed) await consumption.stop();
  }

  /** Sees what was published since the last look. */
  async #look(): Promise<void> {
    const { topic, model, shard, takeOver } = this.#options;
    const published = await readPublished(this.#transport, topic, model, shard, this.#partition, this.#published);
    this.#published = published;
    if (published.course === undefined || published.course === this.#course) return;
    if (!takeOver) {
      const { version, course: got } = published;
      throw new RxgradError('anotherCourse', { topic, model, version, expected: this.#course, got });
    }
    this.#published = { ...published, version: -1 };
  }

  /** Follows what steps write, from the first update on. */
  follow({ params, average }: WeightsUpdate): void {
    const served = average ?? params;
    if (served === this.#served) return;
    this.#changes?.close();
    this.#served = served;
    this.#changes = served.changes();
    this.#deltas = null;
  }

  /**
   * Whether an update's weights are above what was published; or the same, where a snapshot was asked for. Those that are not finite
   * are not: on a compacted topic they would take the place of the last ones that replicas can serve.
   */
  isNew({ version, kept, params, average }: WeightsUpdate): boolean {
    if (!kept && !(average ?? params).finite) return false;
    return version > this.#published.version || (version === this.#published.version && this.#isAsked);
  }

  /** Copies the weights of an update, of which no step is under way. Returns what sends them. */
  copy(update: WeightsUpdate): () => Promise<void> {
    const copied = this.#copy(update);
    return () => this.#send(copied);
  }

  /** Ends behind what is being sent. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#changes?.close();
    await Promise.all([this.#requests?.stop(), this.#writer?.close()]);
  }

  #copy(update: WeightsUpdate): Copied {
    const { dtype, snapshotEvery, maxPartBytes } = this.#options;
    const served = this.#served!;
    const { places, arena, leftRight } = served;
    const slot = update.kept ? served.kept.find(update.kept.version).slot : leftRight.latest;
    const touched = this.#changes!.take();
    const all: Touched = new Map(places.map((_, index) => [index, null]));
    // Less than half is clearly smaller, whatever headers add.
    const isSmall = 2 * touchedBytes(places, touched, dtype) < touchedBytes(places, all, dtype);
    const delta = this.#deltas === null ? Number.POSITIVE_INFINITY : this.#deltas + 1;
    // What a kept version lacks or has beside the last one is not known.
    const isDelta = delta < snapshotEvery && isSmall && !this.#isAsked && !update.kept;
    this.#deltas = isDelta ? delta : update.kept ? null : 0;
    this.#isAsked = false;
    const { step, epoch, lr, gradientNorm, clipped, staleness } = update;
    const { madeAtMs, position } = served.origins.factsOf(leftRight.facts(slot));
    const facts = { step, epoch, lr, gradientNorm, clipped, staleness, madeAtMs, ...position };
    const parts = cut(places, isDelta ? touched : all, dtype, maxPartBytes).map((pieces, part) =>
      copyPieces(arena, leftRight.address(slot), pieces, dtype, part === 0 ? facts : null),
    );
    return { delta: isDelta ? delta : null, version: update.version, parts };
  }

  async #send({ delta, version, parts }: Copied): Promise<void> {
    const { topic, model, shard, shards } = this.#options;
    const { keys } = this.#published;
    const sequence = this.#published.sequence + 1;
    const kind = delta === null ? 'snapshot' : 'delta';
    const base = delta === null ? undefined : sequence - 1;
    const place = { topic, partition: this.#partition };
    const records: TopicRecord[] = [];
    for (const [part, encode] of parts.entries()) {
      const value = encode();
      const facts: WeightsFacts = {
        version,
        course: this.#course,
        sequence,
        kind,
        base,
        shard,
        shards,
        part,
        parts: parts.length,
        crc32: crc32(value),
      };
      const key = keyOf(model, shard, delta, part);
      const record = weightsRecord({ ...place, key }, model, facts, value);
      assertReadable(record);
      records.push(record);
      // Between parts others have their turn.
      await eventLoopTurn();
    }
    const written = new Set(records.map(({ key }) => String(key)));
    // The newest first: what is left in between has no gap.
    const gone = delta !== null ? [] : [...keys].filter((key) => !written.has(key)).toReversed();
    await this.#write([...gone.map((key) => ({ ...place, key, value: null })), ...records]);
    const kept = delta === null ? written : [...keys, ...written];
    this.#published = { ...this.#published, sequence, version, keys: new Set(kept) };
  }

  /** Writes, and again where that may help: transports have their own patience, too. */
  async #write(records: readonly TopicRecord[]): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        await this.#writer!.write(records);
        return;
      } catch (error) {
        if (this.#closed || !isRxgradError(error) || error.disposition !== 'retry' || attempt === MOST_RETRIES) throw error;
      }
      await delay(Math.min(MOST_RETRY_MS, RETRY_MS * 2 ** attempt));
    }
  }
}
