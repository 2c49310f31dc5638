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

/** A record of a transaction, which may go over several topics. */
export interface TopicRecord extends NewRecord {
  readonly topic: string;
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
   * Whether every offset from the beginning on has to be there, so that a gap fails with `offsetGap` after what comes before it was
   * delivered. What no consumer sees (marks and aborted records of transactions) is no gap; records that compaction removed are one.
   * Default false.
   */
  readonly whole?: boolean;
  /** The id that the topic has to have: the consumption fails where it has another one, also where it is made anew meanwhile. */
  readonly topicId?: string | undefined;
  /**
   * Is called with consecutive records of one partition, in order. The transport delivers nothing more of this partition
   * until the returned promise resolves: this is how a consumer slows the log down. Bytes stay valid after the call.
   */
  readonly deliver: (topic: string, partition: number, records: readonly LogRecord[]) => void | Promise<void>;
  /**
   * Is called when everything of a partition before `nextOffset` was delivered and nothing more is there: for the first time
   * soon after the consumption got there, also where the partition is empty, or ends in what is never delivered (records of
   * aborted transactions, marks of their ends, records compacted away). Then again after further deliveries.
   */
  readonly onReached?: (partition: number, nextOffset: number) => void;
  /**
   * Is called with the partitions that this member newly gets, before the first record of them is delivered; the others flow
   * meanwhile. The map says where each begins; one left out begins as `from` or the group say. A partition that another
   * member may have had in between counts as new, and is revoked first. A rejection ends the consumption. Calls of
   * `onAssigned` and `onRevoked` never overlap.
   */
  readonly onAssigned?: (partitions: readonly number[]) => ReadonlyMap<number, number> | Promise<ReadonlyMap<number, number>>;
  /**
   * Is called with the partitions that moved away from this member, of which nothing more is delivered; a call of `deliver`
   * may still be running. Not called by `stop`. A rejection ends the consumption.
   */
  readonly onRevoked?: (partitions: readonly number[]) => void | Promise<void>;
  /** Is called as the consumption is stopped, also because its transport is closed: a delivery that waits for room is to let go. */
  readonly onStop?: () => void;
  /** Is called once, when the transport cannot go on (lost for good, not merely reconnecting). */
  readonly onError: (error: Error) => void;
}

/** A running consumption. */
export interface Consumption {
  /** Notes that everything of the position's partition up to and including it was processed. Cheap: written in the background. */
  acknowledge(position: Position): void;
  /** Continues at `offset`: it is the next one to be delivered, whatever was fetched before. */
  seek(partition: number, offset: number): Promise<void>;
  /** Ends delivery, writes what was acknowledged, and leaves the group. Resolves when none of the options' calls is running. */
  stop(): Promise<void>;
}

/** Appends in transactions. The last one opened under an id is the only one that can. */
export interface TransactionalWriter {
  /**
   * Appends all of the records, over topics and partitions, or none: consumers see them together. Calls keep their order.
   * Resolves to the position of each once they are durable; Kafka lets consumers see them a moment later, when it has marked the
   * end of the transaction in each partition. A rejection means that none of them will be seen, but for
   * `fenced` and an error that says the outcome is unknown: the log tells then.
   */
  write(records: readonly TopicRecord[]): Promise<Position[]>;
  /** Ends after the calls that were made. The id stays free to be opened again. */
  close(): Promise<void>;
}

export interface TopicOptions {
  /** Default 1. */
  readonly partitions?: number;
  /**
   * Lets records go that a later one with the same key supersedes; offsets stay as they are. A value of null stands
   * for a key that is gone. Every record needs a key.
   */
  readonly compacted?: boolean;
}

/** What a topic is, besides its name. */
export interface TopicDescription {
  /** Tells the topic from another one that was made under its name; null where the log has no such ids. */
  readonly id: string | null;
  readonly partitions: number;
}

/** The settings of a topic that rxgrad depends on. Sizes are in bytes, times in milliseconds; null stands for no limit, or none known. */
export interface TopicSettings {
  /** Whether a record makes place for a later one with its key (`cleanup.policy` has `compact`). */
  readonly compacted: boolean;
  /** Whether records are deleted by age or size (`cleanup.policy` has `delete`). */
  readonly deletes: boolean;
  /** The age at which records are deleted (`retention.ms`). */
  readonly retentionMs: number | null;
  /** The size of a partition above which its oldest records are deleted (`retention.bytes`). */
  readonly retentionBytes: number | null;
  /** The largest batch of records that is taken (`max.message.bytes`). */
  readonly maxMessageBytes: number | null;
  /** Whose clock a record's time is of (`message.timestamp.type`). */
  readonly times: 'producer' | 'log';
  /** How many replicas have to have a record before it is acknowledged (`min.insync.replicas`). */
  readonly minInSyncReplicas: number | null;
  /** Whether a replica that lacks acknowledged records may become the leader (`unclean.leader.election.enable`). */
  readonly uncleanLeaders: boolean;
  /** How long the mark of a deleted key is kept at least (`delete.retention.ms`). */
  readonly deleteRetentionMs: number | null;
  /** How long a superseded record is kept, at least and at most (`min.` and `max.compaction.lag.ms`). */
  readonly minCompactionLagMs: number | null;
  readonly maxCompactionLagMs: number | null;
  /** The brokers that hold each partition, by their ids; empty where there are no brokers. */
  readonly replicas: readonly (readonly number[])[];
  /** The ids of all brokers, and where to reach one (`host:port,…`); none where there are no brokers. */
  readonly brokers: readonly number[];
  readonly server: string | null;
}

/**
 * What rxgrad asks of a log: Kafka, the embedded log and memory all pass the same conformance suite
 * (`test/sources/transport-conformance.ts`).
 */
export interface Transport {
  readonly name: string;
  /** Creates a topic, and does nothing where it exists, whatever the options. */
  createTopic(topic: string, options?: TopicOptions): Promise<void>;
  /** Appends records in order and resolves, when they are durable, to the position of each. */
  produce(topic: string, records: readonly NewRecord[]): Promise<Position[]>;
  /** Opens a writer, and fences the one opened before under this id: its next write fails with `fenced`. */
  writer(id: string): Promise<TransactionalWriter>;
  consume(options: ConsumeOptions): Promise<Consumption>;
  /** The offset that the next record of each partition will get, by partition. */
  endOffsets(topic: string): Promise<number[]>;
  /** The offset of the oldest record still held of each partition, by partition. */
  startOffsets(topic: string): Promise<number[]>;
  /** What a topic is now. A transport without it has no ids of topics. */
  describeTopic?(topic: string): Promise<TopicDescription>;
  /** The first record of a partition that is held at an offset or after it, or null. A transport without it is consumed for that. */
  recordAt?(topic: string, partition: number, offset: number): Promise<LogRecord | null>;
  /**
   * The settings of a topic as they are now; null where this user is not allowed to see them. A transport without it has none that
   * could be wrong.
   */
  topicSettings?(topic: string): Promise<TopicSettings | null>;
  close(): Promise<void>;
}
