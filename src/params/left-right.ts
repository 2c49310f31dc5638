import type { Arena } from '../kernels/arena.ts';
import { Readers } from './readers.ts';
import { CONTROL_BYTES, type Origin, type Slot, type SlotFacts, SlotTable, WRITER_SLOTS } from './slot-table.ts';
import { SpareBuffers } from './spare-buffers.ts';

export type { Origin, Slot, SlotFacts } from './slot-table.ts';

/**
 * The left-right protocol over a control block in shared memory: one writer, whose side this is, and any number of readers on any
 * threads.
 *
 * `latest` is the slot that holds the newest weights, `live` the one that readers see; a swap makes the latest one live. A
 * reader marks the live slot while it reads. The writer only ever writes a slot that nobody can be reading: it has two that it
 * writes in turn, and writes the one that is not live, once its last readers have let go; or, where no reader is attached at all,
 * the latest. While a kept version is live, neither of the two is, and the writer stays on the latest one. A version that cannot
 * wait is written to a spare slot, which takes the place of the one that is being read.
 *
 * What is live is what was last wished for (by a swap, or by showing a kept version), unless it is pinned or frozen.
 *
 * Ramalhete and Correia, "Left-Right: A Concurrency Control Technique with Wait-Free Population Oblivious Reads" (2015).
 */
export class LeftRight {
  /** The address of the control block. */
  readonly control: number;
  readonly table: SlotTable;
  readonly readers: Readers;
  /** Hears when another slot went live. */
  readonly followers = new Set<() => void>();
  readonly #spares: SpareBuffers;
  #latest: Slot = 0;
  /** The one of the two that does not hold the newest weights. */
  #other: Slot = 1;
  #wished: Slot = 0;
  #written: Slot | null = null;
  #pinned = false;
  #frozen = 0;

  /** `byteLength` is that of a buffer. */
  constructor(arena: Arena, byteLength: number) {
    this.control = arena.allocate(CONTROL_BYTES);
    this.table = new SlotTable(arena.memory.buffer, this.control);
    for (const slot of [this.#latest, this.#other]) this.table.place(slot, arena.allocate(byteLength));
    this.readers = new Readers(arena, this.table);
    this.#spares = new SpareBuffers(arena, this.table, byteLength, (slot) => this.isIdle(slot));
  }

  get live(): Slot {
    return this.table.live;
  }

  get latest(): Slot {
    return this.#latest;
  }

  /** What would be live if nothing were pinned. */
  get wished(): Slot {
    return this.#wished;
  }

  get pinned(): boolean {
    return this.#pinned;
  }

  /** The slot that is being written; null between two versions. */
  get written(): Slot | null {
    return this.#written;
  }

  /** The version whose weights a slot holds. */
  version(slot: Slot): number {
    return this.table.version(slot);
  }

  facts(slot: Slot): SlotFacts {
    return this.table.facts(slot);
  }

  /** Where the weights of a slot lie. */
  address(slot: Slot): number {
    return this.table.address(slot);
  }

  /** The slot that the next version is written to. It may still have readers: see {@link isFree}. */
  get target(): Slot {
    const inPlace = this.live !== this.#latest || (!this.#pinned && !this.readers.any);
    return inPlace ? this.#latest : this.#other;
  }

  isFree(slot: Slot): boolean {
    return !this.readers.isReading(slot);
  }

  /** Whether a slot is neither read nor shown, nor will be by itself. */
  isIdle(slot: Slot): boolean {
    return slot !== this.live && slot !== this.#wished && this.isFree(slot);
  }

  /** Chooses the slot that is written from now on, until {@link commit}: it is not shown meanwhile. It has to be free. */
  begin(): Slot {
    this.#written = this.target;
    return this.#written;
  }

  /** As {@link begin}, but of a slot that is free whatever readers hold. Where it is not the latest, it is to be written whole. */
  beginWhole(): Slot {
    const { target } = this;
    if (this.isFree(target)) this.#written = target;
    else this.#written = this.isIdle(this.#other) ? this.#other : this.#spares.take();
    return this.#written;
  }

  /** Makes a slot, written whole, the latest one. Readers see it after {@link show}. */
  commit(slot: Slot, version: number, origin: Origin): void {
    this.table.describe(slot, version, origin);
    const replaced = slot === this.#latest || slot === this.#other ? null : this.#other;
    if (slot !== this.#latest) this.#other = this.#latest;
    this.#latest = slot;
    this.#written = null;
    if (!this.readers.any && this.#wished < WRITER_SLOTS) this.show(slot);
    else this.#follow();
    if (replaced !== null) this.#spares.replace(replaced);
  }

  /** Shows a slot to readers, unless what is live is pinned: the flip of an index. A slot that is being written follows then. */
  show(slot: Slot): void {
    this.#wished = slot;
    this.#follow();
  }

  /** Shows a slot, or what is live, until {@link unpin}. */
  pin(slot: Slot = this.live): void {
    this.#pinned = true;
    this.#flip(slot);
  }

  /** Shows what was wished for last. */
  unpin(): void {
    this.#pinned = false;
    this.#follow();
  }

  /** Keeps what is live from following swaps until {@link thaw}: for a moment, whatever is pinned. Pairs may overlap. */
  freeze(): void {
    this.#frozen += 1;
  }

  thaw(): void {
    this.#frozen -= 1;
    this.#follow();
  }

  #follow(): void {
    if (!this.#pinned && this.#frozen === 0 && this.#written !== this.#wished) this.#flip(this.#wished);
  }

  #flip(slot: Slot): void {
    if (slot === this.live) return;
    this.table.live = slot;
    this.#spares.reclaim();
    // Which slot the writer waits for depends on what is live.
    this.table.signalAny();
    for (const follower of this.followers) follower();
  }
}
