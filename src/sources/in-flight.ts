import type { Position } from '../events.ts';

const STALLED_MS = 10_000;

interface Outstanding {
  readonly offset: number;
  readonly bytes: number;
  /** Whether it takes no room any more, though events before it are not acknowledged. */
  released: boolean;
}

/**
 * Counts what was handed out and not acknowledged. Acknowledging a position covers everything before it in its partition,
 * since a partition's events are processed in order.
 */
export class InFlight {
  readonly #maxEvents: number;
  readonly #maxBytes: number;
  readonly #acknowledge: (position: Position) => void;
  readonly #partitions = new Map<number, { queue: Outstanding[]; head: number }>();
  #events = 0;
  #bytes = 0;
  #waiters: (() => void)[] = [];
  #stalled: NodeJS.Timeout | undefined;

  constructor(maxEvents: number, maxBytes: number, acknowledge: (position: Position) => void) {
    this.#maxEvents = maxEvents;
    this.#maxBytes = maxBytes;
    this.#acknowledge = acknowledge;
  }

  /** Whether an event of so many bytes may be handed out. One that is larger than the limit has to wait until it is alone. */
  hasRoom(bytes: number): boolean {
    return this.#events === 0 || (this.#events < this.#maxEvents && this.#bytes + bytes <= this.#maxBytes);
  }

  /** What is in flight of one partition. */
  of(partition: number): { readonly inFlight: number; readonly inFlightBytes: number } {
    const { queue, head } = this.#partitions.get(partition) ?? { queue: [], head: 0 };
    let inFlightBytes = 0;
    let inFlight = 0;
    for (let i = head; i < queue.length; i++) {
      if (queue[i]!.released) continue;
      inFlight += 1;
      inFlightBytes += queue[i]!.bytes;
    }
    return { inFlight, inFlightBytes };
  }

  add({ partition, offset }: Position, bytes: number): void {
    let outstanding = this.#partitions.get(partition);
    if (!outstanding) {
      outstanding = { queue: [], head: 0 };
      this.#partitions.set(partition, outstanding);
    }
    outstanding.queue.push({ offset, bytes, released: false });
    this.#events += 1;
    this.#bytes += bytes;
  }

  done(position: Position): void {
    const outstanding = this.#partitions.get(position.partition);
    if (!outstanding) return;
    const { queue } = outstanding;
    const before = outstanding.head;
    while (outstanding.head < queue.length && queue[outstanding.head]!.offset <= position.offset) {
      this.#free(queue[outstanding.head]!);
      outstanding.head += 1;
    }
    if (outstanding.head === before) return;
    // Cutting the queue only now and then keeps an acknowledgement at constant cost.
    if (outstanding.head === queue.length || outstanding.head > 1024) {
      queue.splice(0, outstanding.head);
      outstanding.head = 0;
    }
    this.#acknowledge(position);
    if (this.#waiters.length > 0) this.#wake();
  }

  /** Frees the room of an event that is done with, while others before it are not. */
  release({ partition, offset }: Position): void {
    const { queue, head } = this.#partitions.get(partition) ?? { queue: [], head: 0 };
    const found = queue.findLastIndex((one) => one.offset <= offset);
    if (found < head || queue[found]!.offset !== offset) return;
    this.#free(queue[found]!);
    if (this.#waiters.length > 0) this.#wake();
  }

  /** Notes an event that is not handed out. It counts as processed once those before it are. */
  skip(position: Position): void {
    const outstanding = this.#partitions.get(position.partition);
    if (!outstanding || outstanding.head === outstanding.queue.length) this.#acknowledge(position);
  }

  /** Resolves when something was acknowledged, or at {@link close}. */
  whenRoom(): Promise<void> {
    this.#stalled ??= setTimeout(() => this.#warn(), STALLED_MS).unref();
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  close(): void {
    this.#wake();
  }

  #free(one: Outstanding): void {
    if (one.released) return;
    one.released = true;
    this.#bytes -= one.bytes;
    this.#events -= 1;
  }

  #wake(): void {
    clearTimeout(this.#stalled);
    this.#stalled = undefined;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve();
  }

  #warn(): void {
    process.emitWarning(
      `${this.#events} events (${this.#bytes} bytes) are in flight and none was acknowledged for ${STALLED_MS / 1000} s. ` +
        'A scan acknowledges what reaches it; a pipe without one, or one that drops every event, has to call acknowledge(event), ' +
        'or leave events out with the source option `where`. Where accumulate waits for more than are handed out at a time, raise ' +
        `maxInFlight (${this.#maxEvents}) or maxBytes (${this.#maxBytes})`,
      { code: 'RXGRAD_STALLED' },
    );
  }
}
