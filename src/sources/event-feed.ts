import type { EventSource, OnceState, TrainingEvent } from '../events.ts';
import { EventDecoder } from './codec.ts';
import type { InFlight } from './in-flight.ts';
import type { LogRecord } from './transport.ts';

/** What is handed out, and within which limits. */
export interface FeedOptions {
  readonly inFlight: InFlight;
  readonly topicId?: string | undefined;
  readonly seen?: OnceState | undefined;
  readonly where?: ((event: TrainingEvent) => boolean) | undefined;
}

/** Who gets the events. */
export interface FeedReader {
  readonly closed: boolean;
  next(event: TrainingEvent): void;
  /** Is told how far a partition was handed out. */
  read(partition: number, nextOffset: number): void;
  /** Is told that all of what was delivered lies behind. */
  passed?(): void;
  /** Whether a record is not to be handed out any more, nor any behind it. */
  isBehind?(partition: number, record: LogRecord): boolean;
}

/** Hands out records of a topic as events, and no more of them at a time than may be in flight. */
export class EventFeed {
  readonly inFlight: InFlight;
  readonly #decoder = new EventDecoder();
  readonly #source: EventSource;
  readonly #topicId: string | undefined;
  readonly #where: FeedOptions['where'];
  readonly #reader: FeedReader;

  constructor({ inFlight, topicId, seen, where }: FeedOptions, reader: FeedReader) {
    this.inFlight = inFlight;
    this.#topicId = topicId;
    this.#source = {
      done: (position) => this.inFlight.done(position),
      release: (position) => this.inFlight.release(position),
      seen,
    };
    this.#where = where;
    this.#reader = reader;
  }

  /** Hands records out, one after the other; resolves once there was room for all of them. */
  deliver(topic: string, partition: number, records: readonly LogRecord[]): void | Promise<void> {
    const { inFlight } = this;
    const reader = this.#reader;
    let read = 0;
    for (; read < records.length; read++) {
      if (reader.closed) return;
      const record = records[read]!;
      if (reader.isBehind?.(partition, record)) break;
      if (!inFlight.hasRoom(bytesOf(record))) {
        if (read > 0) reader.read(partition, records[read - 1]!.offset + 1);
        const rest = records.slice(read);
        return inFlight.whenRoom().then(() => this.deliver(topic, partition, rest));
      }
      this.#hand(topic, partition, record);
    }
    if (read > 0) reader.read(partition, records[read - 1]!.offset + 1);
    else reader.passed?.();
  }

  #hand(topic: string, partition: number, record: LogRecord): void {
    const position = { topic, partition, offset: record.offset };
    const event = this.#decoder.decode(record, { position, source: this.#source, record, topicId: this.#topicId });
    if (this.#where && !this.#where(event)) {
      this.inFlight.skip(position);
      return;
    }
    this.inFlight.add(position, bytesOf(record));
    this.#reader.next(event);
  }
}

function bytesOf(record: LogRecord): number {
  return record.value?.byteLength ?? 0;
}
