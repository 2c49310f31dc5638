import type { ConsumeOptions, LogRecord } from '../transport.ts';

/** What waits for one partition's `deliver`: fetched while it was busy. */
export interface DeliveryLane {
  /** The next offset to be fetched, or null before the first record where the group decides. */
  fetched(): number | null;
  /** The next offset to be delivered: none below it ever is, unless a seek asks for it. */
  next(): number | null;
  isFull(): boolean;
  /** Resolves when there is room again, or when the lane was emptied. */
  room(): Promise<void>;
  push(records: readonly LogRecord[], nextOffset: number): void;
  /** Drops what was fetched and goes on at `offset` (by default, at what is to be delivered next). */
  restart(offset?: number): void;
  /** Resolves when no call of `deliver` is running. */
  idle(): Promise<void>;
}

const mostWaiting = 2;

export function deliveryLane(
  options: ConsumeOptions,
  partition: number,
  first: number | null,
  onFailure: (error: unknown) => void,
): DeliveryLane {
  let waiting: (readonly LogRecord[])[] = [];
  let next = first;
  let fetched = first;
  let running: Promise<void> | null = null;
  let wakers: (() => void)[] = [];

  function wake(): void {
    const woken = wakers;
    wakers = [];
    for (const resolve of woken) resolve();
  }

  async function drain(): Promise<void> {
    try {
      for (let records = waiting.shift(); records; records = waiting.shift()) {
        next = records.at(-1)!.offset + 1;
        wake();
        await options.deliver(options.topic, partition, records);
      }
    } catch (error) {
      onFailure(error);
    } finally {
      running = null;
    }
  }

  return {
    fetched: () => fetched,
    next: () => next,
    isFull: () => waiting.length >= mostWaiting,
    room: () =>
      new Promise((resolve) => {
        wakers.push(resolve);
      }),
    push(records, nextOffset) {
      fetched = nextOffset;
      if (records.length === 0) return;
      waiting.push(records);
      running ??= drain();
    },
    restart(offset) {
      waiting = [];
      if (offset !== undefined) next = offset;
      fetched = next;
      wake();
    },
    async idle() {
      await running;
    },
  };
}
