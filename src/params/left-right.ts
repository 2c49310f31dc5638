import { RxgradError } from '../errors.ts';
import { wokenAt } from '../threads.ts';

/** One of the two weight buffers that the writer writes in turn. */
export type Side = 0 | 1;
/** A weight buffer that readers can be shown: a side, or from 2 on a version that is kept. */
export type Slot = number;

/** How many versions can be kept beside the two sides. */
export const MOST_KEPT = 30;
const SLOTS = 2 + MOST_KEPT;

// Each word has a cache line of its own: readers on other threads count there.
const WORDS = 16;
const LIVE = 0;
const LATEST = 1 * WORDS;
const ATTACHED = 2 * WORDS;
const WAITING = 3 * WORDS;
const WISHED = 4 * WORDS;
const PINNED = 5 * WORDS;
const WRITTEN = 6 * WORDS;
const FROZEN = 7 * WORDS;
const READERS = 8 * WORDS;
const FACTS_BYTES = (8 + SLOTS) * WORDS * 4;

// What is said of a slot, in float64.
const FACTS = 6;
const VERSION = 0;
const MADE_AT = 1;
const TOPIC = 2;
const PARTITION = 3;
const OFFSET = 4;
const ADDRESS = 5;

/** After which a reader that still holds a side is taken for dead. */
const READER_TIMEOUT_MS = 10_000;

/** Bytes of the control block. */
export const CONTROL_BYTES = FACTS_BYTES + SLOTS * FACTS * 8;

/** What is known of the weights in a slot, as numbers that every thread can read: the topic by its place in a list. */
export interface SlotFacts {
  /** Safe up to 2⁵³. */
  readonly version: number;
  /** `Date.now()` when they were made. */
  readonly madeAtMs: number;
  /** −1 where they came from no log. */
  readonly topic: number;
  readonly partition: number;
  readonly offset: number;
}

/** What a commit says of the weights beside their version. */
export type Origin = Omit<SlotFacts, 'version'>;

/**
 * The left-right protocol over a control block in shared memory: one writer, any number of readers on any threads.
 *
 * `latest` is the side that holds the newest weights, `live` the slot that readers see; a swap makes the latest side live. A
 * reader marks the live slot while it reads. The writer only ever writes a side that nobody can be reading: the one that is not
 * live, once its last readers have let go; or, where no reader is attached at all, the one there is. While a kept version is
 * live, neither side is, and the writer stays on the latest one.
 *
 * What is live is what was last wished for (by a swap, or by showing a kept version), unless it is pinned or frozen.
 *
 * Ramalhete and Correia, "Left-Right: A Concurrency Control Technique with Wait-Free Population Oblivious Reads" (2015).
 */
export class LeftRight {
  readonly #words: Int32Array;
  readonly #facts: Float64Array;

  constructor(buffer: ArrayBufferLike, address: number) {
    this.#words = new Int32Array(buffer, address, FACTS_BYTES / 4);
    this.#facts = new Float64Array(buffer, address + FACTS_BYTES, SLOTS * FACTS);
  }

  get live(): Slot {
    return Atomics.load(this.#words, LIVE);
  }

  get latest(): Side {
    return Atomics.load(this.#words, LATEST) as Side;
  }

  /** What would be live if nothing were pinned. */
  get wished(): Slot {
    return Atomics.load(this.#words, WISHED);
  }

  get pinned(): boolean {
    return Atomics.load(this.#words, PINNED) === 1;
  }

  /** The version whose weights a slot holds. */
  version(slot: Slot): number {
    return this.#facts[slot * FACTS + VERSION]!;
  }

  facts(slot: Slot): SlotFacts {
    const facts = this.#facts;
    const at = slot * FACTS;
    return {
      version: facts[at + VERSION]!,
      madeAtMs: facts[at + MADE_AT]!,
      topic: facts[at + TOPIC]!,
      partition: facts[at + PARTITION]!,
      offset: facts[at + OFFSET]!,
    };
  }

  /** Where the weights of a slot lie. */
  address(slot: Slot): number {
    return this.#facts[slot * FACTS + ADDRESS]!;
  }

  /** Says what a slot holds, and where. Nobody may be reading it. */
  describe(slot: Slot, version: number, { madeAtMs, topic, partition, offset }: Origin, address?: number): void {
    const facts = this.#facts;
    const at = slot * FACTS;
    facts[at + VERSION] = version;
    facts[at + MADE_AT] = madeAtMs;
    facts[at + TOPIC] = topic;
    facts[at + PARTITION] = partition;
    facts[at + OFFSET] = offset;
    if (address !== undefined) facts[at + ADDRESS] = address;
  }

  /** Announces a reader; from now on the live side is never written. Must not run while a step is being written. */
  attach(): void {
    Atomics.add(this.#words, ATTACHED, 1);
  }

  detach(): void {
    Atomics.sub(this.#words, ATTACHED, 1);
  }

  /** Marks the live slot as being read and returns it. Wait-free but for a swap in between. */
  acquire(): Slot {
    for (;;) {
      const slot = this.live;
      this.hold(slot);
      if (this.live === slot) return slot;
      this.release(slot);
    }
  }

  /** Marks a slot as being read, whatever is live. For who knows that it is not being written: its keeper's thread. */
  hold(slot: Slot): void {
    Atomics.add(this.#words, wordOf(slot), 1);
  }

  release(slot: Slot): void {
    const before = Atomics.sub(this.#words, wordOf(slot), 1);
    if (before === 1 && Atomics.load(this.#words, WAITING) !== 0) Atomics.notify(this.#words, wordOf(slot));
  }

  /** The side that the next version is written to. It may still have readers: see {@link isFree}. */
  get target(): Side {
    const latest = this.latest;
    if ((Atomics.load(this.#words, ATTACHED) === 0 && !this.pinned) || this.live !== latest) return latest;
    return latest === 0 ? 1 : 0;
  }

  isFree(slot: Slot): boolean {
    return this.#readers(slot) === 0;
  }

  /** Waits without blocking the thread until nobody reads a slot any more. */
  async whenFree(slot: Slot, timeoutMs = READER_TIMEOUT_MS): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    Atomics.add(this.#words, WAITING, 1);
    try {
      for (let readers = this.#readers(slot); readers !== 0; readers = this.#readers(slot)) {
        await wokenAt(this.#words, wordOf(slot), readers, this.#left(slot, deadline, timeoutMs));
      }
    } finally {
      Atomics.sub(this.#words, WAITING, 1);
    }
  }

  /** As {@link whenFree}, blocking the thread. */
  waitUntilFree(slot: Slot, timeoutMs = READER_TIMEOUT_MS): void {
    const deadline = performance.now() + timeoutMs;
    Atomics.add(this.#words, WAITING, 1);
    try {
      for (let readers = this.#readers(slot); readers !== 0; readers = this.#readers(slot)) {
        Atomics.wait(this.#words, wordOf(slot), readers, this.#left(slot, deadline, timeoutMs));
      }
    } finally {
      Atomics.sub(this.#words, WAITING, 1);
    }
  }

  /** Chooses the side that is written from now on, until {@link commit}: it is not shown meanwhile. */
  begin(): Side {
    const side = this.target;
    Atomics.store(this.#words, WRITTEN, 1 + side);
    return side;
  }

  /** Makes a side, written whole, the latest one. Readers see it after {@link show}. */
  commit(side: Side, version: number, origin: Origin): void {
    this.describe(side, version, origin);
    Atomics.store(this.#words, LATEST, side);
    Atomics.store(this.#words, WRITTEN, 0);
    if (Atomics.load(this.#words, ATTACHED) === 0 && this.wished < 2) this.show(side);
    else this.#follow();
  }

  /** Shows a slot to readers, unless what is live is pinned: the flip of an index. A side that is being written follows then. */
  show(slot: Slot): void {
    Atomics.store(this.#words, WISHED, slot);
    this.#follow();
  }

  /** Shows a slot, or what is live, until {@link unpin}. */
  pin(slot: Slot = this.live): void {
    Atomics.store(this.#words, PINNED, 1);
    Atomics.store(this.#words, LIVE, slot);
  }

  /** Shows what was wished for last. */
  unpin(): void {
    Atomics.store(this.#words, PINNED, 0);
    this.#follow();
  }

  /** Keeps what is live from following swaps until {@link thaw}: for a moment, whatever is pinned. Pairs may overlap. */
  freeze(): void {
    Atomics.add(this.#words, FROZEN, 1);
  }

  thaw(): void {
    Atomics.sub(this.#words, FROZEN, 1);
    this.#follow();
  }

  #follow(): void {
    const { wished } = this;
    const stays = this.pinned || Atomics.load(this.#words, FROZEN) > 0;
    if (!stays && Atomics.load(this.#words, WRITTEN) !== 1 + wished) Atomics.store(this.#words, LIVE, wished);
  }

  #readers(slot: Slot): number {
    return Atomics.load(this.#words, wordOf(slot));
  }

  #left(slot: Slot, deadline: number, timeoutMs: number): number {
    const left = deadline - performance.now();
    if (left > 0) return left;
    throw new RxgradError('readerTimeout', { version: this.version(slot), timeoutMs });
  }
}

function wordOf(slot: Slot): number {
  return READERS + slot * WORDS;
}
