import type { ConfidenceSequence } from './confidence-sequence.ts';

/**
 * The empirical-Bernstein confidence sequence of Howard et al. for differences dᵢ from −c to c, with the gamma-exponential
 * mixture as its boundary. It holds at every count, without a distribution and without independence: what it covers is the mean
 * of the differences' expectations, each given those before it.
 *
 * With S = Σ (dᵢ − μ) and V = Σ dᵢ² (Theorem 4, where each difference is predicted as 0 and so is off by c at most), the process
 * m(S, V) is a supermartingale that begins at 1, so that it ever reaches 1/α with a chance of at most α. Proposition 9 gives
 *
 *   m(s, v) = M((v + ρ)/c², (cs + v + ρ)/c²) / M(ρ/c², ρ/c²),   M(a, x) = eˣ x⁻ᵃ Γ(a) P(a, x) = Σₙ xⁿ / (a (a + 1) … (a + n)),
 *
 * where P is the regularized lower incomplete gamma function; ρ = c² here, which is good from a variance of 0 to one of 20 c² in sum.
 *
 * Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics
 * 49 (2021), Theorem 4 and Proposition 9.
 */
export class EmpiricalBernstein implements ConfidenceSequence {
  readonly #bound: number;
  readonly #logRate: number;
  /** What M(a, x) has to reach. */
  readonly #limit: number;
  #count = 0;
  #sum = 0;
  #squares = 0;

  constructor(errorRate: number, bound: number) {
    this.#bound = bound;
    this.#logRate = -Math.log(errorRate);
    this.#limit = series(1, 1, Number.POSITIVE_INFINITY) / errorRate;
  }

  get count(): number {
    return this.#count;
  }

  get mean(): number {
    return this.#count === 0 ? 0 : this.#sum / this.#count;
  }

  add(difference: number): void {
    this.#count += 1;
    this.#sum += difference;
    this.#squares += difference * difference;
  }

  isBelow(bound: number): boolean {
    return this.#reaches(this.#count * bound - this.#sum);
  }

  isAbove(bound: number): boolean {
    return this.#reaches(this.#sum - this.#count * bound);
  }

  interval(): { low: number; high: number } {
    if (this.#count === 0) return { low: -this.#bound, high: this.#bound };
    let [inside, outside] = [0, this.#bound];
    while (!this.#reaches(outside)) outside *= 2;
    while (outside - inside > 1e-9 * outside) {
      const middle = (inside + outside) / 2;
      if (this.#reaches(middle)) outside = middle;
      else inside = middle;
    }
    const half = outside / this.#count;
    return { low: Math.max(this.mean - half, -this.#bound), high: Math.min(this.mean + half, this.#bound) };
  }

  /** Whether m(s, V) ≥ 1/α. Of sums that are not positive it never is. */
  #reaches(sum: number): boolean {
    // A mixture is at most its largest part, e^(s² / 2v): what cannot reach the limit is seen without the series.
    if (sum <= 0 || sum * sum < 2 * this.#squares * this.#logRate) return false;
    const a = this.#squares / (this.#bound * this.#bound) + 1;
    return series(a, a + sum / this.#bound, this.#limit) >= this.#limit;
  }
}

/** M(a, x), term by term, as far as it is below a limit. */
export function series(a: number, x: number, limit: number): number {
  let term = 1 / a;
  let sum = term;
  for (let n = 1; sum < limit && term > 1e-16 * sum; n++) {
    term *= x / (a + n);
    sum += term;
  }
  return sum;
}
