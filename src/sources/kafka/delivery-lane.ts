import type { ConsumeOptions, LogRecord } from '../transport.ts';

/** What waits for one partition's `deliver`: fetched while it was busy. */
export interface DeliveryLane {
  /** The next offset to be fetched, or null before the first record where the group decides. */
  fetched(): number | null;
  /** The next offset to be delivered: none below it ever is, unless a seek asks for it. */
  next(): number | null;
  /** The offset up to which nothing is left to be fetched: `fetched`, or behind it what holds no record. */
  fetchedUpTo(): number | null;
  /** How many fetches of records wait for their delivery. */
  waits(): number;
  /** Whether a call of `deliver` is under way. */
  isDelivering(): boolean;
  isFull(): boolean;
  /** Resolves when there is room again, or when the lane was emptied. */
  room(): Promise<void>;
  push(records: readonly LogRecord[], nextOffset: number): void;
  /** Drops what was fetched and goes on at `offset` (by default, at what is to be delivered next). */
  restart(offset?: number): void;
  /** Delivers nothing more, for good. */
  close(): void;
  /** Goes on after `mayDeliver` said no. */
  resume(): void;
  /** Notes that nothing below `nextOffset` is to be delivered beside what was pushed. */
  pass(nextOffset: number): void;
  /** Notes that the log ends at `end`, or did so a moment ago. */
  endAt(end: number): void;
  /** Whether nothing waits or is being delivered, and the consumer was not told so. */
  awaitsEnd(): boolean;
  /** Whether nothing waits or is being delivered. */
  isIdle(): boolean;
  /** Resolves when no call of `deliver` is running. */
  idle(): Promise<void>;
}

export interface LaneContext {
  readonly mayDeliver: () => boolean;
  readonly onFailure: (error: unknown) => void;
}

const mostWaiting = 2;

export function deliveryLane(
  options: ConsumeOptions,
  partition: number,
  first: number | null,
  { mayDeliver, onFailure }: LaneContext,
): DeliveryLane {
  let waiting: (readonly LogRecord[])[] = [];
  let next = first;
  let fetched = first;
  let passed = first;
  let end: number | null = null;
  let reached: number | null = null;
  let closed = false;
  let delivering = false;
  let wakers: (() => void)[] = [];
  let idlers: (() => void)[] = [];

  function wake(): void {
    const woken = wakers;
    wakers = [];
    for (const resolve of woken) resolve();
  }

  /**
   * Delivers what waits, for as long as it may. Whether that is under way is set in here alone, first and last: it may end before it
   * returns for the first time.
   */
  async function drain(): Promise<void> {
    delivering = true;
    try {
      while (waiting.length > 0 && mayDeliver()) {
        const records = waiting.shift()!;
        next = records.at(-1)!.offset + 1;
        wake();
        await options.deliver(options.topic, partition, records);
      }
    } catch (error) {
      closed = true;
      onFailure(error);
    } finally {
      delivering = false;
      const idle = idlers;
      idlers = [];
      for (const resolve of idle) resolve();
      tell();
    }
  }

  function start(): void {
    if (waiting.length > 0 && !closed && !delivering) void drain();
    tell();
  }

  function isSettled(): boolean {
    return !closed && !delivering && waiting.length === 0;
  }

  function tell(): void {
    if (!options.onReached || !isSettled() || passed === null || end === null || passed < end || passed === reached) return;
    reached = passed;
    try {
      options.onReached(partition, passed);
    } catch (error) {
      onFailure(error);
    }
  }

  return {
    fetched: () => fetched,
    next: () => next,
    fetchedUpTo: () => passed,
    waits: () => waiting.length,
    isDelivering: () => delivering,
    isFull: () => waiting.length >= mostWaiting,
    room: () =>
      new Promise((resolve) => {
        wakers.push(resolve);
      }),
    push(records, nextOffset) {
      if (closed) return;
      fetched = nextOffset;
      passed = nextOffset;
      if (records.length > 0) waiting.push(records);
      start();
    },
    restart(offset) {
      waiting = [];
      if (offset !== undefined) next = offset;
      fetched = next;
      passed = next;
      reached = null;
      wake();
    },
    close() {
      closed = true;
      waiting = [];
      wake();
    },
    resume: start,
    pass(nextOffset) {
      passed = Math.max(nextOffset, passed ?? 0);
      tell();
    },
    endAt(known) {
      end = known;
      tell();
    },
    awaitsEnd: () => isSettled() && (passed === null || passed !== reached),
    isIdle: isSettled,
    async idle() {
      if (delivering) await new Promise<void>((resolve) => idlers.push(resolve));
    },
  };
}
