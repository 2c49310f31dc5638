import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import { type PartitionBounds, requireOffset, requirePartition } from '../topic-bounds.ts';
import type { ConsumeOptions } from '../transport.ts';
import type { DeliveryLane } from './delivery-lane.ts';

export interface AssignmentContext {
  readonly bounds: () => Promise<PartitionBounds[]>;
  /** Whether a lane is still that of the partition. */
  readonly isCurrent: (partition: number, lane: DeliveryLane) => boolean;
  /** Lets a partition begin, at `offset` or where the group says. */
  readonly begin: (partition: number, lane: DeliveryLane, offset: number | undefined) => void;
  readonly onFailure: (error: unknown) => void;
}

/** Calls `onAssigned` and `onRevoked` one after the other, and leaves out what has moved on before its turn. */
export function assignmentCalls(options: ConsumeOptions, context: AssignmentContext) {
  const { topic } = options;
  const told = new Set<number>();
  let calls: Promise<void> = Promise.resolve();
  let left = 0;

  function enqueue(call: () => Promise<void>): void {
    left += 1;
    calls = calls
      .then(call)
      .catch(context.onFailure)
      .finally(() => {
        left -= 1;
      });
  }

  async function assign(lanes: ReadonlyMap<number, DeliveryLane>): Promise<void> {
    // The caller has its Consumption before the first call.
    await eventLoopTurn();
    const current = [...lanes].filter(([partition, lane]) => context.isCurrent(partition, lane));
    if (current.length === 0) return;
    for (const [partition] of current) told.add(partition);
    const asked = (await options.onAssigned?.(current.map(([partition]) => partition))) ?? new Map<number, number>();
    const bounds = asked.size > 0 ? await context.bounds() : [];
    for (const [partition, offset] of asked) {
      requirePartition(topic, bounds.length, partition);
      requireOffset(topic, partition, bounds[partition]!, offset);
    }
    for (const [partition, lane] of current) {
      if (context.isCurrent(partition, lane)) context.begin(partition, lane, asked.get(partition));
    }
  }

  async function revoke(partitions: readonly number[]): Promise<void> {
    const moved = partitions.filter((partition) => told.delete(partition));
    if (moved.length > 0) await options.onRevoked?.(moved);
  }

  return {
    assigned: (lanes: ReadonlyMap<number, DeliveryLane>): void => enqueue(() => assign(lanes)),
    revoked: (partitions: readonly number[]): void => enqueue(() => revoke(partitions)),
    /** Whether a call is running, or waits for its turn. */
    areUnderWay: (): boolean => left > 0,
    /** Resolves when no call is running. */
    idle: (): Promise<void> => calls,
  };
}
