import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Consumer, EachBatchPayload } from 'kafkajs';
import { RxgradError } from '../../errors.ts';
import { requireTopicId } from '../describe-topic.ts';
import { type PartitionBounds, requireOffset, requirePartition, startingOffsets } from '../topic-bounds.ts';
import type { ConsumeOptions, Consumption, TopicDescription } from '../transport.ts';
import { assignedPartitions } from './assigned-partitions.ts';
import { isFinal, kafkaError } from './kafka-error.ts';
import { attempt, kafkaMember, session } from './kafka-member.ts';
import type { KafkaSettings } from './kafka-options.ts';
import { knownEnd } from './known-end.ts';
import { logRecords } from './log-records.ts';
import { SignsOfLife } from './signs-of-life.ts';
import { everySecond, stillWatch } from './still-watch.ts';

export interface KafkaConsumptionContext {
  readonly name: string;
  readonly settings: KafkaSettings;
  readonly bounds: (topic: string) => Promise<PartitionBounds[]>;
  /** The next offset by partition that a group has acknowledged. */
  readonly acknowledged: (groupId: string, topic: string) => Promise<ReadonlyMap<number, number>>;
  readonly describe: (topic: string) => Promise<TopicDescription>;
}

// Outlasts a quick restart of a broker within one membership: a new one has to wait until the old one's session ends.
const mostRetries = 15;
const commitIntervalMs = 3000;
const lastCommitTimeoutMs = 5000;
const leaveTimeoutMs = 5000;
const restartDelayMs = 500;
const pauseAfterMs = 100;

/** Consumes a topic as a member of a group, through kafkajs; resolves once the group was joined. */
export async function consumeKafka(context: KafkaConsumptionContext, options: ConsumeOptions): Promise<Consumption> {
  const { topic, group } = options;
  const { reconnectForMs } = context.settings;
  const { id } = await context.describe(topic);
  requireTopicId(topic, options.topicId, id);
  const topicId = id ?? options.topicId ?? null;
  const bounds = await context.bounds(topic);
  const starts = options.from === undefined ? null : startingOffsets(topic, bounds, options.from, new Map());
  const groupId = group ?? `rxgrad-${randomUUID()}`;
  const unwritten = new Map<number, number>();
  const joined = Promise.withResolvers<void>();
  let consumer: Consumer | null = null;
  let leaveGroup: (() => Promise<void>) | null = null;
  let joinedOnce = false;
  let stopped = false;
  let stopping: Promise<void> | null = null;
  let writing: Promise<void> | null = null;
  let lastFailure: unknown = new Error('no answer');
  const sought = new Set<number>();

  const committing = setInterval(() => {
    writing ??= write().finally(() => {
      writing = null;
    });
  }, commitIntervalMs).unref();

  const partitions = assignedPartitions(options, {
    starts,
    bounds: () => context.bounds(topic),
    consumer: () => consumer,
    onFailure: fail,
  });
  const ends = knownEnd({
    bounds: () => context.bounds(topic),
    acknowledged: () => context.acknowledged(groupId, topic),
    lanes: partitions.allBegun,
  });

  const watch = stillWatch({
    topic,
    bounds: () => context.bounds(topic),
    acknowledged: () => context.acknowledged(groupId, topic),
    lanes: partitions.ownTurn,
    lastHeard: () => signs.description,
    onStill: fail,
  });
  const signs = new SignsOfLife({
    reconnectForMs,
    onSilence: () => fail(kafkaError(context.name, lastFailure, topic)),
    onDeleted: () => fail(new RxgradError('topicDeleted', { transport: context.name, topic })),
  });
  const endWatch = everySecond(() => {
    watch.tick();
    signs.tick();
  });

  async function connect(): Promise<void> {
    const retries = Math.min(mostRetries, Math.ceil(reconnectForMs / 1000));
    const member = kafkaMember(
      { settings: context.settings, groupId, topic, retries, topicId, whole: options.whole ?? false },
      {
        take: (payload) => take(member.consumer, payload),
        fetchStarts: () => sought.clear(),
        fetched() {
          signs.fetched();
          if (options.onReached) ends.look();
        },
        exists: (exists) => signs.exists(exists),
        failed(error) {
          lastFailure = error;
        },
        heartbeat(sentMs) {
          signs.heard();
          partitions.isKnown(sentMs);
        },
        next: (partition) => partitions.laneOf(partition).fetched(),
        joining: partitions.joins,
        joined(assigned, lost) {
          signs.heard();
          for (const partition of partitions.take(member.consumer, assigned, lost)) unwritten.delete(partition);
          partitions.isKnown();
          ends.hurry();
          joinedOnce = true;
          joined.resolve();
        },
        passed(partition, nextOffset, end) {
          const lane = partitions.begun(partition);
          // What a seek has left behind says nothing of where it went.
          if (!lane || stopped || sought.has(partition)) return;
          lane.pass(nextOffset);
          lane.endAt(end);
        },
        gap(partition, error) {
          // What comes before it is delivered first.
          if (partitions.begun(partition)?.isIdle() && !sought.has(partition)) fail(error);
        },
        socketFailed(error) {
          if (isFinal(error)) fail(kafkaError(context.name, error, topic));
        },
        replaced: fail,
        refused: () => fail(groupRefused(context.name, groupId)),
        outOfRange: (partition) => void checkPosition(partition),
        crashed(error) {
          if (consumer === member.consumer) void reconnect(error);
        },
      },
    );
    consumer = member.consumer;
    leaveGroup = member.leave;
    await member.run();
  }

  async function reconnect(error: unknown): Promise<void> {
    if (stopped) return;
    consumer = null;
    if (isFinal(error) || signs.areLost) {
      fail(kafkaError(context.name, error, topic));
      return;
    }
    await delay(restartDelayMs);
    if (stopped) return;
    await connect().catch(reconnect);
  }

  async function take(taking: Consumer, { batch, resolveOffset, heartbeat, isStale, pause }: EachBatchPayload): Promise<void> {
    if (stopped || taking !== consumer || isStale()) return;
    const lane = partitions.begun(batch.partition);
    if (!lane) return;
    resolveOffset(batch.messages.at(-1)!.offset);
    lane.push(logRecords(batch.messages, lane.fetched() ?? 0), Number(batch.lastOffset()) + 1);
    lane.endAt(Number(batch.highWatermark));
    const fullSinceMs = Date.now();
    while (lane.isFull() && !stopped) {
      await Promise.race([lane.room(), delay(Math.min(pauseAfterMs, session.heartbeatInterval))]);
      await heartbeat();
      // kafkajs fetches again only when every partition of this fetch is done: a slow one must not hold up the others.
      if (partitions.size > 1 && lane.isFull() && Date.now() - fullSinceMs >= pauseAfterMs) {
        const goOn = pause();
        void lane.room().then(() => !stopped && taking === consumer && partitions.begun(batch.partition) === lane && goOn());
        return;
      }
    }
  }

  async function checkPosition(partition: number): Promise<void> {
    try {
      const next = partitions.begun(partition)?.next() ?? null;
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
    endWatch();
    partitions.close();
  }

  async function leave(): Promise<void> {
    const left = consumer ? leaveGroup?.() : undefined;
    consumer = null;
    // Without a broker, kafkajs ends its attempts to reach one before it disconnects.
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
      // Of a partition that moved away, another member says how far it is.
      if (partitions.has(partition)) unwritten.set(partition, offset + 1);
    },
    async seek(partition, offset) {
      const held = await context.bounds(topic);
      requirePartition(topic, held.length, partition);
      requireOffset(topic, partition, held[partition]!, offset);
      partitions.laneOf(partition).restart(offset);
      sought.add(partition);
      // Between two memberships there is nothing to tell: joining seeks to what the lane says.
      if (partitions.has(partition)) attempt(() => consumer?.seek({ topic, partition, offset: String(offset) }));
    },
    stop() {
      stopping ??= (async () => {
        end();
        // What is fetched from now on is dropped, so nothing should be.
        attempt(() => consumer?.pause([{ topic }]));
        await partitions.idle();
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
