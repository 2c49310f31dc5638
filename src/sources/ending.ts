import { requirePartition } from './topic-bounds.ts';
import type { ConsumeOptions, LogRecord, Transport } from './transport.ts';

/**
 * Where reading ends: at the end that the log has now, before an offset of each partition named (nothing of the others is
 * read), or before the first record of each partition that is younger than a time, and at the log's present end at the latest.
 */
export type Until = 'end' | { readonly offsets: ReadonlyMap<number, number> } | { readonly timeMs: number };

type From = ConsumeOptions['from'];

/** What is left to be read of a topic, until its end was reached. */
export class Ending {
  /** Where to begin, so that nothing is fetched of partitions of which nothing is to be read. */
  readonly from: From;
  /** The end of each partition as it was. */
  readonly ends: readonly number[];
  /** The first offset that is not to be read, of each partition that is not read to there yet. */
  readonly #limits: Map<number, number>;
  readonly #timeMs: number;

  private constructor(from: From, ends: readonly number[], limits: Map<number, number>, timeMs: number) {
    this.from = from;
    this.ends = ends;
    this.#limits = limits;
    this.#timeMs = timeMs;
  }

  /** Looks up what there is to be read. */
  static async of(transport: Transport, topic: string, from: From, until: Until): Promise<Ending> {
    const [starts, ends] = await Promise.all([transport.startOffsets(topic), transport.endOffsets(topic)]);
    const limits = new Map<number, number>();
    const asked = new Map(from instanceof Map ? from : []);
    const named = typeof until === 'object' && 'offsets' in until ? until.offsets : new Map(ends.entries());
    for (const partition of named.keys()) requirePartition(topic, ends.length, partition);
    for (const [partition, end] of ends.entries()) {
      const start = from === 'end' ? end : Math.max(starts[partition]!, asked.get(partition) ?? 0);
      const limit = named.get(partition) ?? 0;
      if (limit > start) limits.set(partition, limit);
      if (limit <= start || from === 'end') asked.set(partition, end);
    }
    const timeMs = typeof until === 'object' && 'timeMs' in until ? until.timeMs : Number.POSITIVE_INFINITY;
    return new Ending(asked, ends, limits, timeMs);
  }

  get isReached(): boolean {
    return this.#limits.size === 0;
  }

  /** Whether a record comes behind the end of its partition. */
  isBehind(partition: number, { offset, timestampMs }: LogRecord): boolean {
    const limit = this.#limits.get(partition);
    if (limit !== undefined && offset < limit && timestampMs <= this.#timeMs) return false;
    this.#limits.delete(partition);
    return true;
  }

  /** Notes that everything before `nextOffset` was read. */
  reach(partition: number, nextOffset: number): void {
    const limit = this.#limits.get(partition);
    if (limit !== undefined && nextOffset >= limit) this.#limits.delete(partition);
  }
}
