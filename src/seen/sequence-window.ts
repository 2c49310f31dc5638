/** How many sequences a window remembers: the highest seen and those right below it. */
export const WINDOW = 1024;
const WORDS = WINDOW / 32;
const ALL = 0xffff_ffff;
const MAX_RUN = 2 ** 31 - 1;

/** `new`: not seen yet. `below`: too far below the highest to know. */
export type Verdict = 'new' | 'seen' | 'below';

/**
 * Which sequences of a worker were seen, as anti-replay windows of IPsec keep it (RFC 6479): a bit for each of the last
 * {@link WINDOW} up to the highest, in a ring by their number. While they rise without a gap, as most do, their count says it all,
 * and of any number.
 */
export class SequenceWindow {
  #highest: number;
  /** How many up to the highest were seen without a gap; where there are bits, they say it. */
  #run = 1;
  #bits: Uint32Array | null = null;
  /** How many bits are set. */
  #count = 0;

  constructor(first: number) {
    this.#highest = first;
  }

  /** The window that {@link packed} had described. */
  static of(highest: number, run: number, bits: Uint32Array): SequenceWindow {
    const window = new SequenceWindow(highest);
    window.#run = Math.min(run, MAX_RUN);
    if (bits.length > 0) window.#unpack(bits);
    return window;
  }

  get highest(): number {
    return this.#highest;
  }

  verdict(sequence: number): Verdict {
    const age = this.#highest - sequence;
    if (age < 0) return 'new';
    if (!this.#bits && age < this.#run) return 'seen';
    if (age >= WINDOW) return 'below';
    return this.#bits && isSet(this.#bits, sequence) ? 'seen' : 'new';
  }

  /** Notes one, if it is new: what was merged may be noted again, as what it came with is dealt with. */
  note(sequence: number): void {
    if (this.verdict(sequence) !== 'new') return;
    const step = sequence - this.#highest;
    if (step >= WINDOW) {
      this.#bits = null;
      this.#run = 1;
      this.#highest = sequence;
    } else if (step === 1 && !this.#bits) {
      this.#run = Math.min(this.#run + 1, MAX_RUN);
      this.#highest = sequence;
    } else this.#noteBit(sequence, step);
  }

  /**
   * What was seen: without gaps, how many up to the highest; else 0, and bits in rising order, the highest's the last, from
   * the first word that has any.
   */
  packed(): { readonly run: number; readonly bits: Uint32Array } {
    if (!this.#bits) return { run: this.#run, bits: none };
    const bits = this.#rising(this.#bits);
    let first = 0;
    while (bits[first] === 0) first++;
    return { run: 0, bits: bits.subarray(first) };
  }

  #noteBit(sequence: number, step: number): void {
    this.#bits ??= this.#bitsOfRun();
    const bits = this.#bits;
    for (let passed = 1; passed < step; passed++) {
      const left = this.#highest + passed;
      if (isSet(bits, left)) this.#count -= 1;
      bits[wordOf(left)]! &= ~(1 << bitOf(left));
    }
    if (step > 0) this.#highest = sequence;
    // One that leaves the window may have had the same bit.
    if (!isSet(bits, sequence)) this.#count += 1;
    bits[wordOf(sequence)]! |= 1 << bitOf(sequence);
    if (this.#count < WINDOW) return;
    this.#bits = null;
    this.#run = WINDOW;
  }

  #bitsOfRun(): Uint32Array {
    const bits = new Uint32Array(WORDS);
    this.#count = Math.min(this.#run, WINDOW);
    if (this.#count === WINDOW) return bits.fill(ALL);
    for (let i = 0; i < this.#count; i++) bits[wordOf(this.#highest - i)]! |= 1 << bitOf(this.#highest - i);
    return bits;
  }

  #rising(ring: Uint32Array): Uint32Array {
    const [from, shift] = [wordOf(this.#highest + 1), bitOf(this.#highest + 1)];
    const bits = new Uint32Array(WORDS);
    for (let i = 0; i < WORDS; i++) {
      const low = ring[(from + i) % WORDS]! >>> shift;
      bits[i] = shift === 0 ? low : low | (ring[(from + i + 1) % WORDS]! << (32 - shift));
    }
    return bits;
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
    for (let i = 0; i < WINDOW; i++) if (isSet(ring, i)) this.#count += 1;
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

function isSet(bits: Uint32Array, sequence: number): boolean {
  return ((bits[wordOf(sequence)]! >>> bitOf(sequence)) & 1) === 1;
}
