import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Consumer, EachBatchPayload } from 'kafkajs';
import { RxgradError } from '../../errors.ts';
import { type PartitionBounds, requireOffset, requirePartition, startingOffsets } from '../topic-bounds.ts';
import type { ConsumeOptions, Consumption } from '../transport.ts';
import { type DeliveryLane, deliveryLane } from './delivery-lane.ts';
import { fetchBytes, kafkaClient } from './kafka-client.ts';
import { isFinal, kafkaError } from './kafka-error.ts';
import type { KafkaSettings } from './kafka-options.ts';
import { logRecords } from './log-records.ts';

export interface KafkaConsumptionContext {
  readonly name: string;
  readonly settings: KafkaSettings;
  readonly bounds: (topic: string) => Promise<PartitionBounds[]>;
}

// Brokers answer at once when there is something: this bounds how long a seek or a resumed partition waits for an idle fetch.
const maxWaitTimeInMs = 100;
const session = { sessionTimeout: 15_000, rebalanceTimeout: 15_000, heartbeatInterval: 2000 };
const retry = { retries: 60, initialRetryTime: 100, maxRetryTime: 1000, restartOnFailure: async () => false };
// Outlasts a quick restart of a broker within one membership: a new one has to wait until the old one's session ends.
const mostRetries = 15;
const partitionsAtOnce = 32;
const commitIntervalMs = 3000;
const lastCommitTimeoutMs = 5000;
const leaveTimeoutMs = 5000;
const restartDelayMs = 500;
const pauseAfterMs = 100;

/** Consumes a topic as a member of a group, through kafkajs; resolves once the group was joined. */
export async function consumeKafka(context: KafkaConsumptionContext, options: ConsumeOptions): Promise<Consumption> {
  const { topic, group } = options;
  const { reconnectForMs } = context.settings;
  const bounds = await context.bounds(topic);
  const starts = options.from === undefined ? null : startingOffsets(topic, bounds, options.from, new Map());
  const lanes = new Map<number, DeliveryLane>();
  const groupId = group ?? `rxgrad-${randomUUID()}`;
  const unwritten = new Map<number, number>();
  const joined = Promise.withResolvers<void>();
  let assigned: readonly number[] = [];
  let consumer: Consumer | null = null;
  let joinedOnce = false;
  let stopped = false;
  let stopping: Promise<void> | null = null;
  let writing: Promise<void> | null = null;
  let lastContactMs = Date.now();

  const committing = setInterval(() => {
    writing ??= write().finally(() => {
      writing = null;
    });
  }, commitIntervalMs).unref();

  function laneOf(partition: number): DeliveryLane {
    let lane = lanes.get(partition);
    if (!lane) {
      lane = deliveryLane(options, partition, starts?.[partition] ?? null, fail);
      lanes.set(partition, lane);
    }
    return lane;
  }

  async function connect(): Promise<void> {
    const kafka = kafkaClient(context.settings, {
      retries: Math.min(mostRetries, Math.ceil(reconnectForMs / 1000)),
      onSocketError(error) {
        if (isFinal(error)) fail(kafkaError(context.name, error, topic));
      },
      onLog({ log }) {
        // An error may be in the message's place. kafkajs reads on at the first record it finds, and says so nowhere but in its log (2.2.4, ConsumerGroup).
        if (String(log.message).startsWith('Offset out of range')) void checkPosition(Number(log.partition));
        // Nor does it say why it has found no coordinator of the group, and looks for one without end.
        if (String(log.error).startsWith('Not authorized to access group')) fail(groupRefused(context.name, groupId));
      },
    });
    const connecting = kafka.consumer({
      groupId,
      ...fetchBytes,
      maxWaitTimeInMs,
      ...session,
      retry,
      allowAutoTopicCreation: false,
    });
    consumer = connecting;
    const contact = (): void => {
      lastContactMs = Date.now();
    };
    connecting.on(connecting.events.FETCH, contact);
    connecting.on(connecting.events.HEARTBEAT, contact);
    connecting.on(connecting.events.GROUP_JOIN, ({ payload }) => {
      contact();
      join(connecting, payload.memberAssignment[topic] ?? []);
    });
    connecting.on(connecting.events.CRASH, ({ payload }) => {
      if (consumer === connecting) void reconnect(payload.error);
    });
    await connecting.connect();
    await connecting.subscribe({ topic, fromBeginning: true });
    await connecting.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: partitionsAtOnce,
      eachBatch: (payload) => take(connecting, payload),
    });
  }

  async function reconnect(error: unknown): Promise<void> {
    if (stopped) return;
    consumer = null;
    if (isFinal(error) || Date.now() - lastContactMs > reconnectForMs) {
      fail(kafkaError(context.name, error, topic));
      return;
    }
    await delay(restartDelayMs);
    if (stopped) return;
    await connect().catch(reconnect);
  }

  /** After every rebalance kafkajs starts at the committed offsets: moves it to where this consumption is. */
  function join(joining: Consumer, partitions: readonly number[]): void {
    const kept = new Set(assigned);
    for (const partition of partitions) {
      const lane = laneOf(partition);
      // A partition that comes from another member goes on where that one got to, but never below what was delivered here.
      const offset = kept.has(partition) || !joinedOnce ? lane.fetched() : null;
      if (offset !== null) joining.seek({ topic, partition, offset: String(offset) });
    }
    for (const partition of assigned) {
      if (partitions.includes(partition)) continue;
      laneOf(partition).restart();
      unwritten.delete(partition);
    }
    assigned = partitions;
    joinedOnce = true;
    joined.resolve();
  }

  async function take(taking: Consumer, { batch, resolveOffset, heartbeat, isStale, pause }: EachBatchPayload): Promise<void> {
    if (stopped || taking !== consumer || isStale()) return;
    const lane = laneOf(batch.partition);
    resolveOffset(batch.messages.at(-1)!.offset);
    lane.push(logRecords(batch.messages, lane.fetched() ?? 0), Number(batch.lastOffset()) + 1);
    const fullSinceMs = Date.now();
    while (lane.isFull() && !stopped) {
      await Promise.race([lane.room(), delay(Math.min(pauseAfterMs, session.heartbeatInterval))]);
      await heartbeat();
      // kafkajs fetches again only when every partition of this fetch is done: a slow one must not hold up the others.
      if (assigned.length > 1 && lane.isFull() && Date.now() - fullSinceMs >= pauseAfterMs) {
        const resume = pause();
        void lane.room().then(() => !stopped && taking === consumer && resume());
        return;
      }
    }
  }

  async function checkPosition(partition: number): Promise<void> {
    try {
      const next = lanes.get(partition)?.next() ?? null;
      const held = (await context.bounds(topic))[partition];
      if (next !== null && held) requireOffset(topic, partition, held, next);
    } catch (error) {
      if (error instanceof RxgradError && error.key === 'offsetOutOfRange') fail(error);
    }
  }

  async function write(): Promise<void> {
    if (group === undefined || unwritten.size === 0) return;
    const written = [...unwritten];
    try {
      await consumer?.commitOffsets(written.map(([partition, next]) => ({ topic, partition, offset: String(next) })));
    } catch {
      // The group is being rebalanced, or its coordinator moves: the next round writes them.
      return;
    }
    for (const [partition, next] of written) if (unwritten.get(partition) === next) unwritten.delete(partition);
  }

  function end(): void {
    stopped = true;
    clearInterval(committing);
    for (const lane of lanes.values()) lane.restart();
  }

  async function leave(): Promise<void> {
    const leaving = consumer;
    consumer = null;
    // Without a broker, kafkajs ends its attempts to reach one before it disconnects.
    const left = leaving?.disconnect().catch(() => undefined);
    await Promise.race([left, delay(leaveTimeoutMs, undefined, { ref: false })]);
  }

  function fail(error: unknown): void {
    if (stopped) return;
    end();
    void leave();
    const reason = error instanceof Error ? error : new Error(String(error));
    if (joinedOnce) options.onError(reason);
    joined.reject(reason);
  }

  connect().catch(reconnect);
  await joined.promise;

  return {
    acknowledge({ partition, offset }) {
      unwritten.set(partition, offset + 1);
    },
    async seek(partition, offset) {
      const held = await context.bounds(topic);
      requirePartition(topic, held.length, partition);
      requireOffset(topic, partition, held[partition]!, offset);
      laneOf(partition).restart(offset);
      // Between two memberships there is nothing to tell: joining seeks to what the lane says.
      if (assigned.includes(partition)) attempt(() => consumer?.seek({ topic, partition, offset: String(offset) }));
    },
    stop() {
      stopping ??= (async () => {
        end();
        // What is fetched from now on is dropped, so nothing should be.
        attempt(() => consumer?.pause([{ topic }]));
        await Promise.all([...lanes.values()].map((lane) => lane.idle()));
        await writing;
        await Promise.race([write(), delay(lastCommitTimeoutMs, undefined, { ref: false })]);
        await leave();
      })();
      return stopping;
    },
  };
}

function groupRefused(transport: string, group: string): RxgradError {
  const advice = "Give this client's user the right to read that group";
  return new RxgradError('transportFailed', { transport, problem: `not authorized to access group "${group}"`, advice });
}

/** Runs what kafkajs refuses while it is not a member of the group. */
function attempt(action: () => void): void {
  try {
    action();
  } catch {
    // It joins again, and begins at the lanes' offsets.
  }
}
