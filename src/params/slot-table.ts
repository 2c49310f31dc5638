/** A weight buffer that readers can be shown, by its number. */
export type Slot = number;

/** Slots that the writer uses: two in turn, and others while those are being read. */
export const WRITER_SLOTS = 34;
/** How many versions can be kept beside them. */
export const MOST_KEPT = 30;
export const SLOTS = WRITER_SLOTS + MOST_KEPT;

// Each word has a cache line of its own: other threads look there.
const WORDS = 16;
const LIVE = 0;
const WANTED = WORDS;
const SIGNALS = 2 * WORDS;
/** How many readers there are. */
export const ATTACHED = 3 * WORDS;
const WORDS_BYTES = 4 * 4 * WORDS;

// What stands for a slot that the writer waits for is its number plus one.
const NONE = 0;
const ANY = -1;

// What is said of a slot, in float64.
const FACTS = 6;
const VERSION = 0;
const MADE_AT = 1;
const TOPIC = 2;
const PARTITION = 3;
const OFFSET = 4;
const ADDRESS = 5;

/** Bytes of the control block. */
export const CONTROL_BYTES = WORDS_BYTES + SLOTS * FACTS * 8;

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

/** The control block in shared memory: which slot is live, and what each slot holds. The writer writes it, readers on any thread look. */
export class SlotTable {
  readonly words: Int32Array;
  readonly #facts: Float64Array;

  constructor(buffer: ArrayBufferLike, address: number) {
    this.words = new Int32Array(buffer, address, WORDS_BYTES / 4);
    this.#facts = new Float64Array(buffer, address + WORDS_BYTES, SLOTS * FACTS);
  }

  /** The slot that readers see. */
  get live(): Slot {
    return Atomics.load(this.words, LIVE);
  }

  set live(slot: Slot) {
    Atomics.store(this.words, LIVE, slot);
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

  /** Says where the weights of a slot lie. Nobody may be reading it. */
  place(slot: Slot, address: number): void {
    this.#facts[slot * FACTS + ADDRESS] = address;
  }

  /** Says what a slot holds. Nobody may be reading it. */
  describe(slot: Slot, version: number, { madeAtMs, topic, partition, offset }: Origin): void {
    const facts = this.#facts;
    const at = slot * FACTS;
    facts[at + VERSION] = version;
    facts[at + MADE_AT] = madeAtMs;
    facts[at + TOPIC] = topic;
    facts[at + PARTITION] = partition;
    facts[at + OFFSET] = offset;
  }

  /** Tells the writer, if it waits for a slot, that a reader has let go of it. */
  signal(slot: Slot): void {
    const wanted = Atomics.load(this.words, WANTED);
    if (wanted === slot + 1 || wanted === ANY) this.#wake();
  }

  /** Tells the writer, if it waits, that it may wait for another slot now. */
  signalAny(): void {
    if (Atomics.load(this.words, WANTED) !== NONE) this.#wake();
  }

  /** Says which slot the writer waits for: null for more than one, undefined for none. */
  set wanted(slot: Slot | null | undefined) {
    Atomics.store(this.words, WANTED, slot === undefined ? NONE : slot === null ? ANY : slot + 1);
  }

  /** How many signals there were, and the word that counts them. */
  get signals(): { readonly index: number; readonly count: number } {
    return { index: SIGNALS, count: Atomics.load(this.words, SIGNALS) };
  }

  #wake(): void {
    Atomics.add(this.words, SIGNALS, 1);
    Atomics.notify(this.words, SIGNALS);
  }
}
