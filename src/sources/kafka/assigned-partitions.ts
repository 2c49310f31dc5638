import type { Consumer } from 'kafkajs';
import type { PartitionBounds } from '../topic-bounds.ts';
import type { ConsumeOptions } from '../transport.ts';
import { assignmentCalls } from './assignment-calls.ts';
import { type DeliveryLane, deliveryLane } from './delivery-lane.ts';
import { attempt, session } from './kafka-member.ts';

export interface AssignedPartitionsContext {
  /** Where each partition begins at first, or null where the group decides. */
  readonly starts: readonly number[] | null;
  readonly bounds: () => Promise<PartitionBounds[]>;
  readonly consumer: () => Consumer | null;
  readonly onFailure: (error: unknown) => void;
}

/** The partitions that the group has given to this consumption, and their lanes, over all rebalances. */
export function assignedPartitions(options: ConsumeOptions, { starts, bounds, consumer, onFailure }: AssignedPartitionsContext) {
  const { topic } = options;
  const lanes = new Map<number, DeliveryLane>();
  // Those of which the user has yet to say where they begin, and what ends of those that moved away.
  const pending = new Set<number>();
  const ending = new Map<number, Promise<void>>();
  let atFirst: ReadonlySet<number> = new Set();
  let assigned: ReadonlySet<number> = new Set();
  let joinedOnce = false;
  let joining = false;
  let closed = false;
  let knownMs = Date.now();

  const calls = assignmentCalls(options, {
    bounds,
    isCurrent: (partition, lane) => !closed && lanes.get(partition) === lane,
    begin: (partition, lane, offset) => void begin(partition, lane, offset),
    onFailure,
  });

  /** Whether this member can be sure enough that its partitions are its own, where its user keeps their state. */
  function mayDeliver(partition: number): boolean {
    if (!options.onAssigned) return true;
    return !joining && !pending.has(partition) && Date.now() - knownMs < session.sessionTimeout;
  }

  function laneOf(partition: number): DeliveryLane {
    let lane = lanes.get(partition);
    if (!lane) {
      const first = starts?.[partition] ?? null;
      lane = deliveryLane(options, partition, first, { mayDeliver: () => mayDeliver(partition), onFailure });
      lanes.set(partition, lane);
    }
    return lane;
  }

  function leave(partition: number): void {
    const lane = laneOf(partition);
    pending.delete(partition);
    if (!options.onAssigned) {
      lane.restart();
      return;
    }
    lane.close();
    lanes.delete(partition);
    const ended = Promise.all([ending.get(partition), lane.idle()]);
    ending.set(
      partition,
      ended.then(() => undefined),
    );
  }

  /** Lets a partition begin that waited for its user. */
  async function begin(partition: number, lane: DeliveryLane, asked: number | undefined): Promise<void> {
    if (!pending.has(partition)) return;
    await ending.get(partition);
    if (closed || lanes.get(partition) !== lane) return;
    ending.delete(partition);
    if (asked !== undefined) lane.restart(asked);
    const offset = asked ?? (atFirst.has(partition) ? lane.fetched() : null);
    pending.delete(partition);
    attempt(() => {
      if (offset !== null) consumer()?.seek({ topic, partition, offset: String(offset) });
      consumer()?.resume([{ topic, partitions: [partition] }]);
    });
  }

  /** After every rebalance kafkajs starts at the committed offsets: moves it to where this consumption is. */
  function place(member: Consumer, partition: number, isKept: boolean): void {
    if (pending.has(partition)) return;
    const lane = laneOf(partition);
    if (options.onAssigned && !isKept) {
      pending.add(partition);
      member.pause([{ topic, partitions: [partition] }]);
      return;
    }
    // A partition that comes from another member goes on where that one got to, but never below what was delivered here.
    const offset = isKept || !joinedOnce ? lane.fetched() : null;
    if (offset !== null) member.seek({ topic, partition, offset: String(offset) });
  }

  return {
    laneOf,
    has: (partition: number): boolean => assigned.has(partition),
    get size(): number {
      return assigned.size;
    },
    /** The lane of a partition that has begun. */
    begun: (partition: number): DeliveryLane | undefined => (pending.has(partition) ? undefined : lanes.get(partition)),
    allBegun: (): Map<number, DeliveryLane> =>
      new Map([...assigned].filter((partition) => !pending.has(partition)).map((partition) => [partition, laneOf(partition)])),
    /** The lanes of all assigned partitions, but of those that wait for the user's calls to let them begin. */
    ownTurn(): Map<number, DeliveryLane> {
      const waits = (partition: number): boolean => pending.has(partition) && (calls.areUnderWay() || ending.has(partition));
      return new Map([...assigned].filter((partition) => !waits(partition)).map((partition) => [partition, laneOf(partition)]));
    },
    /** The assignment ends: others may get these partitions before this member hears of it. */
    joins(): void {
      joining = true;
    },
    /** The group has shown that this member belonged to it at that time. */
    isKnown(sentMs = Date.now()): void {
      knownMs = Math.max(knownMs, sentMs);
      for (const lane of lanes.values()) lane.resume();
    },
    /** Takes an assignment over; gives back what has moved away. */
    take(member: Consumer, partitions: readonly number[], lost: boolean): readonly number[] {
      // Where its user keeps the state of partitions, another member may have gone on with it.
      const kept = new Set(lost && options.onAssigned ? [] : partitions.filter((partition) => assigned.has(partition)));
      const gone = [...assigned].filter((partition) => !kept.has(partition));
      const gained = partitions.filter((partition) => !kept.has(partition));
      for (const partition of gone) leave(partition);
      assigned = new Set(partitions);
      for (const partition of partitions) place(member, partition, kept.has(partition));
      atFirst = joinedOnce ? new Set([...kept].filter((partition) => atFirst.has(partition))) : assigned;
      joinedOnce = true;
      joining = false;
      if (gone.length > 0) calls.revoked(gone);
      if (gained.length > 0) calls.assigned(new Map(gained.map((partition) => [partition, laneOf(partition)])));
      return gone;
    },
    close(): void {
      closed = true;
      for (const lane of lanes.values()) lane.close();
    },
    /** Resolves when none of the options' calls is running. */
    async idle(): Promise<void> {
      await Promise.all([calls.idle(), ...ending.values(), ...[...lanes.values()].map((lane) => lane.idle())]);
    },
  };
}
