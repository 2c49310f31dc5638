import type MersenneTwister from 'mersenne-twister';
import type { LabelledExamples } from './gate-options.ts';

/** Examples, and how many had come before them. */
export interface Arrived<L> {
  readonly examples: LabelledExamples<L>;
  readonly arrival: number;
}

/** Labelled examples that wait to be scored: above a limit, the oldest are let go. */
export class WaitingExamples<L> {
  readonly #limit: number;
  #waiting: Arrived<L>[] = [];
  #arrivals = 0;
  #missed = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many have come. */
  get arrivals(): number {
    return this.#arrivals;
  }

  /** How many were let go. */
  get missed(): number {
    return this.#missed;
  }

  add(examples: LabelledExamples<L>): void {
    this.#waiting.push({ examples, arrival: this.#arrivals++ });
    if (this.#waiting.length <= this.#limit) return;
    this.#waiting.shift();
    this.#missed += 1;
  }

  take(): Arrived<L> | undefined {
    return this.#waiting.shift();
  }

  /** Lets those go that nobody is to be scored on. */
  clear(): void {
    this.#waiting = [];
  }
}

/** Yields all of some values once, in an order of its own (Fisher and Yates). */
export function* inRandomOrder<T>(values: readonly T[], random: MersenneTwister): Generator<T, void> {
  const left = [...values];
  for (let n = left.length; n > 0; n--) {
    const chosen = Math.floor(random.random() * n);
    yield left[chosen]!;
    left[chosen] = left[n - 1]!;
  }
}
