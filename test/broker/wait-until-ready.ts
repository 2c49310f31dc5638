import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Kafka, logLevel } from 'kafkajs';

/** A client that says nothing and does not repeat by itself: the loops here do. */
export function quietClient(brokers: string): Kafka {
  return new Kafka({
    brokers: brokers.split(','),
    connectionTimeout: 2_000,
    requestTimeout: 10_000,
    logLevel: logLevel.NOTHING,
    retry: { retries: 0 },
  });
}

/** Calls `attempt` until it fulfils. Rejects with its last error after `timeoutMs`, or at once when `givenUp` returns a reason. */
export async function until(
  attempt: () => Promise<void>,
  timeoutMs: number,
  givenUp: () => string | null = () => null,
): Promise<void> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    try {
      return await attempt();
    } catch (cause) {
      const reason = givenUp() ?? (Date.now() > end ? `not ready within ${timeoutMs} ms` : null);
      if (reason) throw new Error(`${reason}: ${messageOf(cause)}`, { cause });
      await sleep(100);
    }
  }
}

export function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).trim();
}

/**
 * Waits until a consumer group can commit. An open port is not enough: for some seconds after a start the coordinator of
 * groups still loads, and whoever comes early is turned away.
 */
export async function waitUntilReady(brokers: string, timeoutMs = 60_000): Promise<void> {
  const name = `ready-${randomUUID()}`;
  const kafka = quietClient(brokers);
  const admin = kafka.admin();
  try {
    await until(() => admin.connect(), timeoutMs);
    await until(async () => {
      await admin.createTopics({ topics: [{ topic: name, numPartitions: 1 }], waitForLeaders: true });
    }, timeoutMs);
    await until(() => commitOnce(kafka, name), timeoutMs);
    await admin.deleteGroups([name]).catch(() => {});
    await admin.deleteTopics({ topics: [name] });
  } finally {
    await admin.disconnect();
  }
}

/** Joins a group and commits an offset, both named like the topic. */
async function commitOnce(kafka: Kafka, topic: string): Promise<void> {
  const consumer = kafka.consumer({
    groupId: topic,
    // The topic is empty: without this, leaving waits for the whole of a fetch.
    maxWaitTimeInMs: 50,
    retry: { retries: 0, restartOnFailure: async () => false },
  });
  const { promise: joined, resolve, reject } = Promise.withResolvers<void>();
  joined.catch(() => {});
  consumer.on(consumer.events.GROUP_JOIN, () => resolve());
  consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
  try {
    await consumer.connect();
    await consumer.subscribe({ topic, fromBeginning: true });
    await consumer.run({ autoCommit: false, eachMessage: async () => {} });
    await joined;
    await consumer.commitOffsets([{ topic, partition: 0, offset: '0' }]);
  } finally {
    await consumer.disconnect();
  }
}
