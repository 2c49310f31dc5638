/** How many sequences a window remembers: the highest seen and those right below it. */
export const WINDOW = 1024;
const WORDS = WINDOW / 32;
const ALL = 0xffff_ffff;

/** `new`: not seen yet. `below`: too far below the highest to know. */
export type Verdict = 'new' | 'seen' | 'below';

/**
 * Which sequences of a worker were seen, as anti-replay windows of IPsec keep it (RFC 6479): a bit for each of the last
 * {@link WINDOW} up to the highest, in a ring by their number. While they rise without a gap, as most do, only their count is kept.
 */
export class SequenceWindow {
  #highest: number;
  /** How many up to the highest were seen without a gap, and none below; where there are bits, they say it. */
  #run = 1;
  #bits: Uint32Array | null = null;

  constructor(first: number) {
    this.#highest = first;
  }

  /** The window that {@link packed} had described. */
  static of(highest: number, run: number, bits: Uint32Array): SequenceWindow {
    const window = new SequenceWindow(highest);
    window.#run = run;
    if (bits.length > 0) window.#unpack(bits);
    return window;
  }

  get highest(): number {
    return this.#highest;
  }

  verdict(sequence: number): Verdict {
    const age = this.#highest - sequence;
    if (age < 0) return 'new';
    if (age >= WINDOW) return 'below';
    const seen = this.#bits ? (this.#bits[wordOf(sequence)]! >>> bitOf(sequence)) & 1 : age < this.#run;
    return seen ? 'seen' : 'new';
  }

  /** Notes one that was new. */
  note(sequence: number): void {
    const step = sequence - this.#highest;
    if (!this.#bits && (step === 1 || step >= WINDOW)) {
      this.#run = step === 1 ? Math.min(this.#run + 1, WINDOW) : 1;
      this.#highest = sequence;
      return;
    }
    this.#bits ??= this.#bitsOfRun();
    const bits = this.#bits;
    if (step >= WINDOW) bits.fill(0);
    else for (let passed = 1; passed < step; passed++) clear(bits, this.#highest + passed);
    if (step > 0) this.#highest = sequence;
    bits[wordOf(sequence)]! |= 1 << bitOf(sequence);
  }

  /**
   * What was seen: without gaps, how many up to the highest; else 0, and bits in rising order, the highest's the last, from
   * the first word that has any. The same for the same sequences, in whatever order they came.
   */
  packed(): { readonly run: number; readonly bits: Uint32Array } {
    if (!this.#bits) return { run: this.#run, bits: none };
    const bits = this.#rising(this.#bits);
    const first = bits.findIndex((word) => word !== 0);
    const word = bits[first]!;
    // All ones from the lowest one on: what is below it is filled by the subtraction.
    const withoutGaps = (word | (word - 1)) >>> 0 === ALL && bits.subarray(first + 1).every((other) => other === ALL);
    if (!withoutGaps) return { run: 0, bits: bits.subarray(first) };
    this.#run = WINDOW - 32 * first - (31 - Math.clz32(word & -word));
    this.#bits = null;
    return { run: this.#run, bits: none };
  }

  #bitsOfRun(): Uint32Array {
    const bits = new Uint32Array(WORDS);
    for (let i = 0; i < this.#run; i++) bits[wordOf(this.#highest - i)]! |= 1 << bitOf(this.#highest - i);
    return bits;
  }

  #rising(ring: Uint32Array): Uint32Array {
    const [from, shift] = [wordOf(this.#highest + 1), bitOf(this.#highest + 1)];
    return Uint32Array.from({ length: WORDS }, (_, i) => {
      const low = ring[(from + i) % WORDS]! >>> shift;
      return shift === 0 ? low : low | (ring[(from + i + 1) % WORDS]! << (32 - shift));
    });
  }

  #unpack(bits: Uint32Array): void {
    const ring = new Uint32Array(WORDS);
    const shift = bitOf(this.#highest + 1);
    const from = wordOf(this.#highest + 1) + WORDS - bits.length;
    bits.forEach((word, i) => {
      ring[(from + i) % WORDS]! |= word << shift;
      if (shift > 0) ring[(from + i + 1) % WORDS]! |= word >>> (32 - shift);
    });
    this.#bits = ring;
  }
}

const none = new Uint32Array(0);

// The low bits of a whole number up to 2⁵³: `>>>` takes them exactly.
function wordOf(sequence: number): number {
  return (sequence >>> 5) % WORDS;
}

function bitOf(sequence: number): number {
  return sequence & 31;
}

function clear(bits: Uint32Array, sequence: number): void {
  bits[wordOf(sequence)]! &= ~(1 << bitOf(sequence));
}
