import type { Delivery, Place, Position } from './events.ts';
import type { LogRecord } from './record.ts';
import { markOf, type RecordMark } from './record-mark.ts';
import { NowAndThen } from './seen/now-and-then.ts';

/** The offset of the next record by topic and partition, as plain data. */
export type Positions = [topic: string, partition: number, next: number][];

/** What tells the log that a state contains a part of from another one, as plain data. */
export interface LogFacts {
  /** When the youngest record that is contained was appended; null where none is, left out where it is not known. */
  newestMs?: number | null | undefined;
  /** Ids of topics, where their transports know them. */
  topics: [topic: string, id: string][];
  /** The last record that is contained, by partition. */
  last: [topic: string, partition: number, offset: number, timestampMs: number, crc: number][];
}

interface Next {
  readonly topic: string;
  readonly partition: number;
  next: number;
  /** How far this run has come, wherever it began. */
  passed: number;
  /** What the weights contained of it before this run began. */
  begun: number;
  topicId: string | null;
  /** The last record that is contained: as it came, until somebody asks for its mark. */
  last: LogRecord | RecordMark | null;
}

/**
 * Keeps how far the log is contained in a state, and which log it is: for each partition, the offset of the first record that is not
 * contained, and what the one before it was.
 */
export class Reached {
  readonly #partitions: Next[] = [];
  readonly #outOfOrder = new NowAndThen('RXGRAD_ORDER_CHANGED');
  readonly #again = new NowAndThen('RXGRAD_READ_AGAIN');
  // Most records follow one of the same partition.
  #last: Next | null = null;
  #newestMs: number | null | undefined = null;

  /** Notes an event that the state contains, and with it all before it in its partition. */
  note(delivery: Delivery | null): void {
    if (!delivery) return;
    const { covers = [delivery], position } = delivery;
    if (covers.some((place) => this.#wasContained(place))) this.#warnOfRepetition(position);
    if (covers.length > 0 && covers.every((place) => this.#isPassed(place))) this.#warnOfOrder(position);
    for (const place of covers) this.#pass(place);
  }

  /** Notes what the weights contained before this run, though its state says nothing of it. */
  begin(before: readonly (readonly [topic: string, partition: number, next: number])[]): void {
    for (const [topic, partition, next] of before) this.#of(topic, partition).begun = next;
  }

  #wasContained({ position: { topic, partition, offset } }: Place): boolean {
    return offset < this.#of(topic, partition).begun;
  }

  #warnOfRepetition({ topic, partition, offset }: Position): void {
    this.#again.warn(
      (count) =>
        `${topic}/${partition}@${offset} is contained in these weights already (${count} such events so far): a scan over them had it before, and ` +
        'this one knows only what it was told. To go on where a stream has ended, put recover in a defer in front of retry()',
    );
  }

  /** Whether this run has dealt with a later event of the same partition. */
  #isPassed({ position: { topic, partition, offset } }: Place): boolean {
    return offset < this.#of(topic, partition).passed;
  }

  #warnOfOrder({ topic, partition, offset }: Position): void {
    this.#outOfOrder.warn(
      (count) =>
        `${topic}/${partition}@${offset} came after a later event of its partition, the ${count}. one that did. An operator in front of the scan ` +
        'changes the order, or a source hands events out twice: a checkpoint counts all events before the last one as contained, so a crash ' +
        'loses what such an operator still holds. Keep the order of a partition (concatMap in the place of mergeMap)',
    );
  }

  state(): Positions {
    return this.#partitions.map(({ topic, partition, next }) => [topic, partition, next]);
  }

  log(): LogFacts {
    const topics = new Map(
      this.#partitions.flatMap(({ topic, topicId }) => (topicId === null ? [] : [[topic, topicId] as const])),
    );
    const last = this.#partitions.flatMap((one): LogFacts['last'] => {
      if (one.last === null) return [];
      if ('value' in one.last) one.last = markOf(one.last);
      return [[one.topic, one.partition, one.last.offset, one.last.timestampMs, one.last.crc]];
    });
    return { ...(this.#newestMs === undefined ? {} : { newestMs: this.#newestMs }), topics: [...topics], last };
  }

  /** Goes on from a state; one that was written before there were facts of its log has none. */
  restore(positions: Positions, log?: LogFacts): void {
    const ids = new Map(log?.topics);
    for (const [topic, partition, next] of positions) {
      const known = this.#of(topic, partition);
      known.next = Math.max(known.next, next);
      known.begun = known.next;
      known.topicId = ids.get(topic) ?? null;
    }
    for (const [topic, partition, offset, timestampMs, crc] of log?.last ?? []) {
      const known = this.#of(topic, partition);
      if (known.next === offset + 1) known.last = { offset, timestampMs, crc };
    }
    this.#newestMs = log?.newestMs;
  }

  #pass({ position: { topic, partition, offset }, record, topicId }: Place): void {
    const known = this.#of(topic, partition);
    if (topicId !== undefined && known.topicId !== topicId) this.#identify(topic, topicId);
    if (record === undefined) this.#newestMs = undefined;
    else if (this.#newestMs !== undefined && record.timestampMs > (this.#newestMs ?? Number.NEGATIVE_INFINITY))
      this.#newestMs = record.timestampMs;
    known.passed = Math.max(known.passed, offset + 1);
    if (offset < known.next) return;
    known.next = offset + 1;
    known.last = record ?? null;
  }

  /** Of a log of another id, nothing is contained yet. */
  #identify(topic: string, topicId: string): void {
    for (const one of this.#partitions) {
      if (one.topic !== topic) continue;
      if (one.topicId !== null && one.topicId !== topicId) {
        one.next = 0;
        one.passed = 0;
        one.begun = 0;
        one.last = null;
      }
      one.topicId = topicId;
    }
  }

  #of(topic: string, partition: number): Next {
    if (this.#last?.partition !== partition || this.#last.topic !== topic) this.#last = this.#find(topic, partition);
    return this.#last;
  }

  #find(topic: string, partition: number): Next {
    const known = this.#partitions.find((one) => one.partition === partition && one.topic === topic);
    if (known) return known;
    const topicId = this.#partitions.find((one) => one.topic === topic)?.topicId ?? null;
    const added: Next = { topic, partition, next: 0, passed: 0, begun: 0, topicId, last: null };
    this.#partitions.push(added);
    return added;
  }
}
