import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Consumer, EachBatchPayload } from 'kafkajs';
import { RxgradError } from '../../errors.ts';
import { type PartitionBounds, requireOffset, requirePartition, startingOffsets } from '../topic-bounds.ts';
import type { ConsumeOptions, Consumption } from '../transport.ts';
import { assignmentCalls } from './assignment-calls.ts';
import { type DeliveryLane, deliveryLane } from './delivery-lane.ts';
import { isFinal, kafkaError } from './kafka-error.ts';
import { kafkaMember, session } from './kafka-member.ts';
import type { KafkaSettings } from './kafka-options.ts';
import { knownEnd } from './known-end.ts';
import { logRecords } from './log-records.ts';

export interface KafkaConsumptionContext {
  readonly name: string;
  readonly settings: KafkaSettings;
  readonly bounds: (topic: string) => Promise<PartitionBounds[]>;
  /** The next offset by partition that a group has acknowledged. */
  readonly acknowledged: (groupId: string, topic: string) => Promise<ReadonlyMap<number, number>>;
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
  const bounds = await context.bounds(topic);
  const starts = options.from === undefined ? null : startingOffsets(topic, bounds, options.from, new Map());
  const lanes = new Map<number, DeliveryLane>();
  const groupId = group ?? `rxgrad-${randomUUID()}`;
  const unwritten = new Map<number, number>();
  const joined = Promise.withResolvers<void>();
  // The partitions of which this consumption's user has yet to say where they begin, and what ends of those that moved away.
  const pending = new Set<number>();
  const ending = new Map<number, Promise<void>>();
  const firstAssignment = new Set<number>();
  let assigned: readonly number[] = [];
  let consumer: Consumer | null = null;
  let joinedOnce = false;
  let stopped = false;
  let stopping: Promise<void> | null = null;
  let writing: Promise<void> | null = null;
  let lastContactMs = Date.now();
  let lastMemberMs = Date.now();
  let joining = false;
  const sought = new Set<number>();

  const committing = setInterval(() => {
    writing ??= write().finally(() => {
      writing = null;
    });
  }, commitIntervalMs).unref();

  const calls = assignmentCalls(options, {
    bounds: () => context.bounds(topic),
    isCurrent: (partition, lane) => !stopped && lanes.get(partition) === lane,
    begin: (partition, lane, offset) => void begin(partition, lane, offset),
    onFailure: fail,
  });
  const ends = knownEnd({
    bounds: () => context.bounds(topic),
    acknowledged: () => context.acknowledged(groupId, topic),
    lanes: () =>
      new Map(assigned.filter((partition) => !pending.has(partition)).map((partition) => [partition, laneOf(partition)])),
  });

  /** Whether this member can be sure enough that its partitions are its own, where its user keeps their state. */
  function mayDeliver(partition: number): boolean {
    if (!options.onAssigned) return true;
    return !joining && !pending.has(partition) && Date.now() - lastMemberMs < session.sessionTimeout;
  }

  function laneOf(partition: number): DeliveryLane {
    let lane = lanes.get(partition);
    if (!lane) {
      const first = starts?.[partition] ?? null;
      lane = deliveryLane(options, partition, first, { mayDeliver: () => mayDeliver(partition), onFailure: fail });
      lanes.set(partition, lane);
    }
    return lane;
  }

  function resume(): void {
    lastMemberMs = Date.now();
    for (const lane of lanes.values()) lane.resume();
  }

  async function connect(): Promise<void> {
    const retries = Math.min(mostRetries, Math.ceil(reconnectForMs / 1000));
    const member = kafkaMember(
      { settings: context.settings, groupId, topic, retries },
      {
        take: (payload) => take(member.consumer, payload),
        fetchStarts: () => sought.clear(),
        fetched() {
          lastContactMs = Date.now();
          if (options.onReached) ends.look();
        },
        heartbeat() {
          lastContactMs = Date.now();
          resume();
        },
        joining() {
          joining = true;
        },
        joined(partitions, lost) {
          lastContactMs = Date.now();
          joining = false;
          join(member.consumer, partitions, lost);
          resume();
        },
        passed(partition, nextOffset, end) {
          const lane = lanes.get(partition);
          // What a seek has left behind says nothing of where it went.
          if (!lane || stopped || sought.has(partition) || pending.has(partition)) return;
          lane.pass(nextOffset);
          lane.endAt(end);
        },
        socketFailed(error) {
          if (isFinal(error)) fail(kafkaError(context.name, error, topic));
        },
        refused: () => fail(groupRefused(context.name, groupId)),
        outOfRange: (partition) => void checkPosition(partition),
        crashed(error) {
          if (consumer === member.consumer) void reconnect(error);
        },
      },
    );
    consumer = member.consumer;
    await member.run();
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
  function join(member: Consumer, partitions: readonly number[], lost: boolean): void {
    // Where its user keeps the state of partitions, another member may have gone on with it.
    const kept = new Set(lost && options.onAssigned ? [] : assigned.filter((partition) => partitions.includes(partition)));
    const gone = assigned.filter((partition) => !kept.has(partition));
    const gained = partitions.filter((partition) => !kept.has(partition));
    for (const partition of gone) leavePartition(partition);
    assigned = partitions;
    for (const partition of partitions) {
      if (pending.has(partition)) continue;
      const lane = laneOf(partition);
      if (options.onAssigned && !kept.has(partition)) {
        pending.add(partition);
        member.pause([{ topic, partitions: [partition] }]);
        continue;
      }
      // A partition that comes from another member goes on where that one got to, but never below what was delivered here.
      const offset = kept.has(partition) || !joinedOnce ? lane.fetched() : null;
      if (offset !== null) member.seek({ topic, partition, offset: String(offset) });
    }
    if (!joinedOnce) for (const partition of partitions) firstAssignment.add(partition);
    else for (const partition of gained) firstAssignment.delete(partition);
    if (gone.length > 0) calls.revoked(gone);
    if (gained.length > 0) calls.assigned(new Map(gained.map((partition) => [partition, laneOf(partition)])));
    joinedOnce = true;
    ends.hurry();
    joined.resolve();
  }

  function leavePartition(partition: number): void {
    const lane = laneOf(partition);
    unwritten.delete(partition);
    pending.delete(partition);
    if (!options.onAssigned) {
      lane.restart();
      return;
    }
    lane.close();
    lanes.delete(partition);
    ending.set(
      partition,
      Promise.all([ending.get(partition), lane.idle()]).then(() => undefined),
    );
  }

  /** Lets a partition begin that waited for its user. */
  async function begin(partition: number, lane: DeliveryLane, asked: number | undefined): Promise<void> {
    if (!pending.has(partition)) return;
    await ending.get(partition);
    if (stopped || lanes.get(partition) !== lane) return;
    ending.delete(partition);
    if (asked !== undefined) lane.restart(asked);
    const offset = asked ?? (firstAssignment.has(partition) ? lane.fetched() : null);
    pending.delete(partition);
    attempt(() => {
      if (offset !== null) consumer?.seek({ topic, partition, offset: String(offset) });
      consumer?.resume([{ topic, partitions: [partition] }]);
    });
    ends.hurry();
  }

  async function take(taking: Consumer, { batch, resolveOffset, heartbeat, isStale, pause }: EachBatchPayload): Promise<void> {
    if (stopped || taking !== consumer || isStale()) return;
    const lane = lanes.get(batch.partition);
    if (!lane || pending.has(batch.partition)) return;
    resolveOffset(batch.messages.at(-1)!.offset);
    lane.push(logRecords(batch.messages, lane.fetched() ?? 0), Number(batch.lastOffset()) + 1);
    lane.endAt(Number(batch.highWatermark));
    const fullSinceMs = Date.now();
    while (lane.isFull() && !stopped) {
      await Promise.race([lane.room(), delay(Math.min(pauseAfterMs, session.heartbeatInterval))]);
      await heartbeat();
      // kafkajs fetches again only when every partition of this fetch is done: a slow one must not hold up the others.
      if (assigned.length > 1 && lane.isFull() && Date.now() - fullSinceMs >= pauseAfterMs) {
        const goOn = pause();
        void lane.room().then(() => !stopped && taking === consumer && lanes.get(batch.partition) === lane && goOn());
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
    for (const lane of lanes.values()) lane.close();
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
      sought.add(partition);
      // Between two memberships there is nothing to tell: joining seeks to what the lane says.
      if (assigned.includes(partition)) attempt(() => consumer?.seek({ topic, partition, offset: String(offset) }));
    },
    stop() {
      stopping ??= (async () => {
        end();
        // What is fetched from now on is dropped, so nothing should be.
        attempt(() => consumer?.pause([{ topic }]));
        await Promise.all([calls.idle(), ...ending.values(), ...[...lanes.values()].map((lane) => lane.idle())]);
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
