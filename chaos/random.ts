import MersenneTwister from 'mersenne-twister';

/** Numbers that a seed decides. */
export class Random {
  readonly #twister: MersenneTwister;

  constructor(seed: number) {
    this.#twister = new MersenneTwister(seed);
  }

  /** From 0 to below 1. */
  share(): number {
    return this.#twister.random();
  }

  /** A whole number from 0 to below `end`. */
  below(end: number): number {
    return Math.floor(this.share() * end);
  }

  /** Whether something happens that does so in this share of all cases. */
  chance(share: number): boolean {
    return this.share() < share;
  }

  /** A number around zero, as gradients are. */
  element(): number {
    return 2 * this.share() - 1;
  }
}
