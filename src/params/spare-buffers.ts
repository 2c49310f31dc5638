import { RxgradError } from '../errors.ts';
import type { Arena } from '../kernels/arena.ts';
import { type Slot, type SlotTable, WRITER_SLOTS } from './slot-table.ts';

/** Buffers beside the two that the writer writes in turn: for versions that cannot wait until those are free. */
export class SpareBuffers {
  readonly #arena: Arena;
  readonly #table: SlotTable;
  readonly #byteLength: number;
  readonly #isIdle: (slot: Slot) => boolean;
  readonly #unused: Slot[] = Array.from({ length: WRITER_SLOTS - 2 }, (_, i) => 2 + i);
  /** Slots whose place others have taken, while somebody may still be reading them. */
  #replaced: Slot[] = [];

  /** `isIdle` tells of a slot whether it is neither read nor shown, nor can be. */
  constructor(arena: Arena, table: SlotTable, byteLength: number, isIdle: (slot: Slot) => boolean) {
    this.#arena = arena;
    this.#table = table;
    this.#byteLength = byteLength;
    this.#isIdle = isIdle;
  }

  /** A slot with memory of its own. */
  take(): Slot {
    this.reclaim();
    const [slot] = this.#unused;
    if (slot === undefined) throw this.#inUse();
    try {
      this.#table.place(slot, this.#arena.allocate(this.#byteLength));
    } catch (cause) {
      throw this.#inUse(cause);
    }
    this.#unused.shift();
    return slot;
  }

  /** Takes a slot whose place another has taken. Its memory is used again when nobody reads it any more. */
  replace(slot: Slot): void {
    this.#replaced.push(slot);
    this.reclaim();
  }

  #inUse(cause?: unknown): RxgradError {
    return new RxgradError('buffersInUse', { count: WRITER_SLOTS - this.#unused.length }, { cause });
  }

  /** Gives memory back that nobody reads any more. */
  reclaim(): void {
    if (this.#replaced.length === 0) return;
    const idle = this.#replaced.filter(this.#isIdle);
    this.#replaced = this.#replaced.filter((slot) => !idle.includes(slot));
    for (const slot of idle) {
      this.#arena.release(this.#table.address(slot), this.#byteLength);
      this.#unused.push(slot);
    }
  }
}
