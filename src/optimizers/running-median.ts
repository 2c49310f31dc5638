/** The median of the last numbers, and how far they lie from it. Adding one allocates nothing and moves `size` numbers at most. */
export class RunningMedian {
  /** As they came; the oldest one stands at `#next` once all places are taken. */
  readonly #came: Float64Array;
  readonly #sorted: Float64Array;
  #count = 0;
  #next = 0;

  constructor(size: number) {
    this.#came = new Float64Array(size);
    this.#sorted = new Float64Array(size);
  }

  get count(): number {
    return this.#count;
  }

  /** Adds a finite number, in the place of the oldest where all places are taken. */
  add(value: number): void {
    const sorted = this.#sorted;
    const to = this.#firstFrom(value);
    const full = this.#count === sorted.length;
    const free = full ? this.#firstFrom(this.#came[this.#next]!) : this.#count;
    if (to > free) {
      sorted.copyWithin(free, free + 1, to);
      sorted[to - 1] = value;
    } else {
      sorted.copyWithin(to + 1, to, free);
      sorted[to] = value;
    }
    this.#came[this.#next] = value;
    this.#next = (this.#next + 1) % sorted.length;
    if (!full) this.#count += 1;
  }

  get median(): number {
    const half = this.#count >> 1;
    const upper = this.#sorted[half]!;
    return this.#count % 2 === 1 ? upper : (this.#sorted[half - 1]! + upper) / 2;
  }

  /** The median of the distances from a number: walks outwards from it, to the next nearest each time. */
  deviation(from: number): number {
    const count = this.#count;
    const sorted = this.#sorted;
    let above = this.#firstFrom(from);
    let below = above - 1;
    let [last, distance] = [0, 0];
    for (let i = 0; i <= count >> 1; i++) {
      last = distance;
      const down = below >= 0 ? from - sorted[below]! : Number.POSITIVE_INFINITY;
      const up = above < count ? sorted[above]! - from : Number.POSITIVE_INFINITY;
      if (down <= up) {
        distance = down;
        below -= 1;
      } else {
        distance = up;
        above += 1;
      }
    }
    return count % 2 === 1 ? distance : (last + distance) / 2;
  }

  /** The numbers as they came, the oldest first. */
  state(): number[] {
    const full = this.#count === this.#came.length;
    return full
      ? [...this.#came.subarray(this.#next), ...this.#came.subarray(0, this.#next)]
      : [...this.#came.subarray(0, this.#count)];
  }

  /** Goes on from {@link state}, of another size maybe: the newest ones count. */
  restore(values: readonly number[]): void {
    this.#count = 0;
    this.#next = 0;
    for (const value of values.slice(-this.#came.length)) this.add(value);
  }

  /** How many of the sorted numbers are smaller. */
  #firstFrom(value: number): number {
    let [low, high] = [0, this.#count];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#sorted[middle]! < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
