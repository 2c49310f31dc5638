import { ATTACHED, SLOTS, type Slot, type SlotTable } from './slot-table.ts';

// What a reader says of itself, and from the next cache line on, how often it holds each slot.
const STATE = 0;
const ID = 1;
const THREAD = 2;
const COUNTS = 16;

const CLOSED = 0;
const ANNOUNCED = 1;
const ATTACHED_STATE = 2;
const UNKNOWN = -1;

/** Bytes of one reader's marks. */
export const MARKS_BYTES = 4 * (COUNTS + SLOTS);

/**
 * What one reader marks as being read, in shared memory that belongs to it alone: so that a reader whose thread is gone takes its
 * marks along, wherever it was, and readers on several threads do not contend for a cache line.
 */
export class ReaderMarks {
  readonly address: number;
  readonly #table: SlotTable;
  readonly #words: Int32Array;

  constructor(table: SlotTable, buffer: ArrayBufferLike, address: number) {
    this.address = address;
    this.#table = table;
    this.#words = new Int32Array(buffer, address, MARKS_BYTES / 4);
  }

  /** Marks the live slot as being read and returns it. Wait-free but for a swap in between. */
  acquire(): Slot {
    for (;;) {
      const slot = this.#table.live;
      this.hold(slot);
      if (this.#table.live === slot) return slot;
      this.release(slot);
    }
  }

  /** Marks a slot as being read, whatever is live. For who knows that it is not being written: its keeper's thread. */
  hold(slot: Slot): void {
    Atomics.add(this.#words, COUNTS + slot, 1);
  }

  release(slot: Slot): void {
    if (Atomics.sub(this.#words, COUNTS + slot, 1) === 1) this.#table.signal(slot);
  }

  holds(slot: Slot): boolean {
    return Atomics.load(this.#words, COUNTS + slot) !== 0;
  }

  /** The thread that has taken them; −1 where none has so far. */
  get thread(): number {
    return Atomics.load(this.#words, THREAD);
  }

  get id(): number {
    return Atomics.load(this.#words, ID);
  }

  get isClosed(): boolean {
    return Atomics.load(this.#words, STATE) === CLOSED;
  }

  /** Keeps them for a reader that is to come. */
  announce(id: number): void {
    Atomics.store(this.#words, ID, id);
    Atomics.store(this.#words, THREAD, UNKNOWN);
    Atomics.store(this.#words, STATE, ANNOUNCED);
    Atomics.add(this.#table.words, ATTACHED, 1);
  }

  /** Takes them for a reader on this thread. False where they are another's. */
  attach(id: number, thread: number): boolean {
    if (this.id !== id || Atomics.compareExchange(this.#words, STATE, ANNOUNCED, ATTACHED_STATE) !== ANNOUNCED) return false;
    Atomics.store(this.#words, THREAD, thread);
    return true;
  }

  /** Takes leave for the reader. What it still holds it may release later. */
  close(): void {
    if (Atomics.exchange(this.#words, STATE, CLOSED) === CLOSED) return;
    Atomics.sub(this.#table.words, ATTACHED, 1);
    this.#table.signalAny();
  }

  /** Takes leave for a reader that is gone, and lets go of all that it held. */
  clear(): void {
    for (let slot = 0; slot < SLOTS; slot++) Atomics.store(this.#words, COUNTS + slot, 0);
    this.close();
    this.#table.signalAny();
  }
}
