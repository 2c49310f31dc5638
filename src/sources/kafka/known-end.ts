import type { PartitionBounds } from '../topic-bounds.ts';
import type { DeliveryLane } from './delivery-lane.ts';

export interface KnownEndContext {
  readonly bounds: () => Promise<PartitionBounds[]>;
  /** The next offset by partition that the group has acknowledged. */
  readonly acknowledged: () => Promise<ReadonlyMap<number, number>>;
  /** The lanes of the partitions that are read now. */
  readonly lanes: () => ReadonlyMap<number, DeliveryLane>;
}

const leastIntervalMs = 500;

/**
 * Finds out that a partition was read to its end where no fetch says so: kafkajs hands out no empty ones, so nothing tells a
 * consumer that begins at the end; and while another transaction is open, what is held ends before what was appended.
 * Asks only while a lane has nothing to do and was not told its end.
 */
export function knownEnd({ bounds, acknowledged, lanes }: KnownEndContext) {
  let askedAtMs = 0;
  let asking = false;

  async function ask(): Promise<void> {
    const waiting = [...lanes()].filter(([, lane]) => lane.awaitsEnd());
    if (waiting.length === 0) return;
    const unknown = waiting.some(([, lane]) => lane.fetched() === null);
    const [held, next] = await Promise.all([bounds(), unknown ? acknowledged() : new Map<number, number>()]);
    for (const [partition, lane] of waiting) {
      const { first, end } = held[partition]!;
      if (lane.fetched() === null) lane.pass(Math.max(first, next.get(partition) ?? first));
      lane.endAt(end);
    }
  }

  return {
    /** Is called after every fetch. */
    look(): void {
      if (asking || Date.now() - askedAtMs < leastIntervalMs) return;
      askedAtMs = Date.now();
      asking = true;
      // A broker that is away is noticed elsewhere; the next fetch asks again.
      ask()
        .catch(() => undefined)
        .finally(() => {
          asking = false;
        });
    },
    /** Lets the next look ask at once. */
    hurry(): void {
      askedAtMs = 0;
    },
  };
}
