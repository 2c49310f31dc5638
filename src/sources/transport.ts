import type { Position } from '../events.ts';
import type { HeaderValue, LogRecord } from '../record.ts';

export type { HeaderValue, LogRecord, Position };

/** A record as a producer hands it over. Partition 0 where none is named. */
export interface NewRecord {
  readonly key?: string | Uint8Array | null;
  readonly value: Uint8Array | null;
  readonly headers?: Readonly<Record<string, HeaderValue>>;
  readonly partition?: number;
}

export interface ConsumeOptions {
  readonly topic: string;
  /**
   * Where to begin: at the first record, behind the last one, at an offset by partition (partitions left out begin at the
   * first record), or, by default, behind what `group` has acknowledged (at the first record where it never has).
   */
  readonly from?: 'beginning' | 'end' | ReadonlyMap<number, number>;
  /** Consumer group: shares the topic's partitions among its members and keeps what was acknowledged. Default: a new one. */
  readonly group?: string;
  /**
   * Is called with consecutive records of one partition, in order. The transport delivers nothing more of this partition
   * until the returned promise resolves: this is how a consumer slows the log down. Bytes stay valid after the call.
   */
  readonly deliver: (topic: string, partition: number, records: readonly LogRecord[]) => void | Promise<void>;
  /** Is called once, when the transport cannot go on (lost for good, not merely reconnecting). */
  readonly onError: (error: Error) => void;
}

/** A running consumption. */
export interface Consumption {
  /** Notes that everything of the position's partition up to and including it was processed. Cheap: written in the background. */
  acknowledge(position: Position): void;
  /** Continues at `offset`: it is the next one to be delivered, whatever was fetched before. */
  seek(partition: number, offset: number): Promise<void>;
  /** Ends delivery, writes what was acknowledged, and leaves the group. Resolves when no call of `deliver` is running. */
  stop(): Promise<void>;
}

/**
 * What rxgrad asks of a log: Kafka, the embedded log and memory all pass the same conformance suite
 * (`test/sources/transport-conformance.ts`).
 */
export interface Transport {
  readonly name: string;
  /** Creates a topic, and does nothing where it exists. */
  createTopic(topic: string, options?: { readonly partitions?: number }): Promise<void>;
  /** Appends records in order and resolves, when they are durable, to the position of each. */
  produce(topic: string, records: readonly NewRecord[]): Promise<Position[]>;
  consume(options: ConsumeOptions): Promise<Consumption>;
  /** The offset that the next record of each partition will get, by partition. */
  endOffsets(topic: string): Promise<number[]>;
  /** The offset of the oldest record still held of each partition, by partition. */
  startOffsets(topic: string): Promise<number[]>;
  close(): Promise<void>;
}
