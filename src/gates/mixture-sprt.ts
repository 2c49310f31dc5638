import type { ConfidenceSequence } from './confidence-sequence.ts';

/** Before so many differences their variance is not known well enough for anything to be shown. */
const LEAST = 100;

/**
 * The mixture sequential probability ratio test of Johari et al. for the mean of n differences d̄ against a mean θ, mixed over
 * N(θ, τ²):
 *
 *   Λ = √(σ² / (σ² + nτ²)) · exp(n² τ² (d̄ − θ)² / (2σ² (σ² + nτ²))),   θ is ruled out where Λ ≥ 1/α.
 *
 * The variance σ² is estimated: (c² + Σ (dᵢ − d̄)²) / (n + 1), with one difference of the largest size added, so that it is never 0.
 * So its error rate holds for many differences that are independent and alike, and not for certain; τ is the effect that it is
 * to be quick for.
 *
 * Johari, Koomen, Pekelis and Walsh, "Always Valid Inference: Continuous Monitoring of A/B Tests", Operations Research 70 (2022).
 */
export class MixtureSprt implements ConfidenceSequence {
  readonly #logLimit: number;
  readonly #bound: number;
  readonly #effect: number;
  #count = 0;
  #mean = 0;
  // Of squared distances from the mean (Welford).
  #scatter = 0;

  constructor(errorRate: number, bound: number, effect: number) {
    this.#logLimit = -Math.log(errorRate);
    this.#bound = bound;
    this.#effect = effect;
  }

  get count(): number {
    return this.#count;
  }

  get mean(): number {
    return this.#mean;
  }

  add(difference: number): void {
    this.#count += 1;
    const away = difference - this.#mean;
    this.#mean += away / this.#count;
    this.#scatter += away * (difference - this.#mean);
  }

  isBelow(bound: number): boolean {
    return this.#count >= LEAST && this.#mean + this.#half() <= bound;
  }

  isAbove(bound: number): boolean {
    return this.#count >= LEAST && this.#mean - this.#half() >= bound;
  }

  interval(): { low: number; high: number } {
    const half = this.#count < LEAST ? Number.POSITIVE_INFINITY : this.#half();
    return { low: Math.max(this.#mean - half, -this.#bound), high: Math.min(this.#mean + half, this.#bound) };
  }

  /** How far from the mean Λ reaches 1/α. */
  #half(): number {
    const n = this.#count;
    const variance = (this.#bound * this.#bound + this.#scatter) / (n + 1);
    const mixed = variance + n * this.#effect * this.#effect;
    const exponent = this.#logLimit + Math.log(mixed / variance) / 2;
    return Math.sqrt(2 * variance * mixed * exponent) / (n * this.#effect);
  }
}
