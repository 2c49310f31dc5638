import kafkajs, { type Consumer, type EachBatchPayload, type PartitionAssigner } from 'kafkajs';
import type { RxgradError } from '../../errors.ts';
import { Connections } from './connections.ts';
import { fetchBytes, kafkaClient } from './kafka-client.ts';
import type { KafkaSettings } from './kafka-options.ts';
import { lastingCoordinator } from './member-coordinator.ts';
import { lastingFetches } from './member-fetches.ts';

export interface MemberOptions {
  readonly settings: KafkaSettings;
  readonly groupId: string;
  readonly topic: string;
  /** Attempts to reach a broker within one membership. */
  readonly retries: number;
  /** The id of the topic that is read; null where its brokers know none. */
  readonly topicId: string | null;
  /** Whether every offset has to be there. */
  readonly whole: boolean;
}

/** What becomes of a member of a group. */
export interface MemberEvents {
  take(payload: EachBatchPayload): Promise<void>;
  fetchStarts(): void;
  fetched(): void;
  /** A broker did not answer, or not yet; it is asked again. */
  failed(error: unknown): void;
  /** Whether the cluster knows the topic, as it has just said. */
  exists(exists: boolean): void;
  /** The group knew this member at that time. */
  heartbeat(sentMs: number): void;
  /** Where a partition goes on of which the group has acknowledged nothing; null where that is not known here. */
  next(partition: number): number | null;
  /** The assignment ends: others may get its partitions before this member hears of it. */
  joining(): void;
  /** `lost`: an assignment may have come and gone that this member did not see. */
  joined(partitions: readonly number[], lost: boolean): void;
  /** What was fetched holds nothing to be delivered: marks, aborted records, or compacted ones. */
  passed(partition: number, nextOffset: number, end: number): void;
  /** The next record to be fetched is gone, and kafkajs goes on at the first that is there. */
  outOfRange(partition: number): void;
  /** The next record to be fetched was removed, and there are later ones. Is told with every fetch, as long as that is so. */
  gap(partition: number, error: RxgradError): void;
  /** A connection failed; kafkajs tries again. */
  socketFailed(error: Error): void;
  /** The group does not take this client's user. */
  refused(): void;
  crashed(error: unknown): void;
  /** The topic was deleted and made anew: nothing of it was handed over. */
  replaced(error: RxgradError): void;
}

// Brokers answer at once when there is something: this bounds how long a seek or a resumed partition waits for an idle fetch.
const maxWaitTimeInMs = 100;
export const session = { sessionTimeout: 15_000, rebalanceTimeout: 15_000, heartbeatInterval: 2000 };
const retry = { retries: 60, initialRetryTime: 100, maxRetryTime: 1000, restartOnFailure: async () => false };
const partitionsAtOnce = 32;

/** Makes one membership of a group: a kafkajs consumer that is not connected yet, and what starts it. */
export function kafkaMember({ settings, groupId, topic, retries, topicId, whole }: MemberOptions, events: MemberEvents) {
  let memberId: string | null = null;
  let joins = 0;
  let over = false;
  const connections = new Connections('the member has left');

  const kafka = kafkaClient(settings, {
    retries,
    onCluster(cluster) {
      lastingFetches(cluster, { topic, topicId, whole, ...events });
      lastingCoordinator(cluster, { over: () => over, known: events.heartbeat, next: events.next });
    },
    onSocketError: events.socketFailed,
    onSocket: (socket) => connections.add(socket),
    onLog({ log }) {
      // kafkajs says so nowhere but in its log (2.2.4, ConsumerGroup), where an error may be in the message's place.
      if (String(log.message).startsWith('Offset out of range')) events.outOfRange(Number(log.partition));
      // Nor does it say why it has found no coordinator of the group, and looks for one without end.
      if (String(log.error).startsWith('Not authorized to access group')) events.refused();
    },
  });

  /** kafkajs tells of a join that succeeded only; it asks its assigner at each attempt. */
  const assigner: PartitionAssigner = (config) => {
    const roundRobin = kafkajs.PartitionAssigners.roundRobin(config);
    return {
      ...roundRobin,
      protocol(subscription) {
        joins += 1;
        events.joining();
        return roundRobin.protocol(subscription);
      },
    };
  };

  const consumer = kafka.consumer({
    groupId,
    ...fetchBytes,
    maxWaitTimeInMs,
    ...session,
    retry,
    allowAutoTopicCreation: false,
    partitionAssigners: [assigner],
  });
  const on = consumer.on.bind(consumer) as Consumer['on'];
  on(consumer.events.FETCH_START, () => events.fetchStarts());
  on(consumer.events.GROUP_JOIN, ({ payload }) => {
    // A group forgets a member that it has not heard of, and names it anew; and one that joined twice missed an assignment.
    const lost = payload.memberId !== memberId || joins > 1;
    memberId = payload.memberId;
    joins = 0;
    events.joined(payload.memberAssignment[topic] ?? [], lost);
  });
  on(consumer.events.END_BATCH_PROCESS, ({ payload }) => {
    if (payload.batchSize > 0) return;
    events.passed(payload.partition, Number(payload.lastOffset) + 1, Number(payload.highWatermark));
  });
  on(consumer.events.CRASH, ({ payload }) => {
    over = true;
    connections.end();
    events.crashed(payload.error);
  });

  return {
    consumer,
    async leave(): Promise<void> {
      over = true;
      await consumer.disconnect().catch(() => undefined);
      connections.end();
    },
    async run(): Promise<void> {
      await consumer.connect();
      await consumer.subscribe({ topic, fromBeginning: true });
      await consumer.run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        partitionsConsumedConcurrently: partitionsAtOnce,
        eachBatch: (payload) => events.take(payload),
      });
    },
  };
}

/** Runs what kafkajs refuses while it is not a member of the group. */
export function attempt(action: () => void): void {
  try {
    action();
  } catch {
    // It joins again, and begins at the lanes' offsets.
  }
}
