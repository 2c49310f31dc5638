import * as v from 'valibot';
import { RxgradError } from '../errors.ts';
import type { Outlier } from '../observe/channels.ts';
import { count, positive } from '../options.ts';
import type { Refusal } from './plan.ts';
import { RunningMedian } from './running-median.ts';

/**
 * What becomes of a batch whose gradient norm is far above those before it: log ‖g‖ > m + `factor` · max(1.4826 · d, `floor`), with
 * m the median of the last logarithms and d that of their distances from m.
 */
export interface OutlierOptions {
  /** `warn`: it is applied and reported. `reject`: it is left out. */
  readonly policy: 'off' | 'warn' | 'reject';
  /** Applied batches that it is compared with, the last ones. Default 256. */
  readonly window?: number;
  /** Default 8. */
  readonly factor?: number;
  /** Least spread, so that norms which hardly differ may: by default a norm of five medians passes always. Default 0.2. */
  readonly floor?: number;
  /** Batches that are applied before any is judged. Default 32. */
  readonly after?: number;
}

/** The schema of {@link OutlierOptions}. */
export const outliersSchema = v.pipe(
  v.strictObject({
    policy: v.picklist(['off', 'warn', 'reject']),
    window: v.optional(v.pipe(count, v.maxValue(65_536)), 256),
    factor: v.optional(positive, 8),
    floor: v.optional(positive, 0.2),
    after: v.optional(count, 32),
  }),
  v.check(({ after, window }) => after <= window, '`after` of at most `window`'),
);

/** {@link OutlierOptions} with their defaults. */
export type ParsedOutliers = v.InferOutput<typeof outliersSchema>;

/** Makes the distances of a normal distribution's numbers from their median its standard deviation. */
const NORMAL = 1.4826;

/**
 * Knows the norms of the last applied batches, and which one is far above them. What is rejected never counts; what is only
 * warned of does, since it was applied: a lasting change stops being one when about half of the window has it. Norms of 0 pass, and say
 * nothing of the others. So do small ones: they move the weights little, and are what training comes to.
 *
 * Leys et al., "Detecting outliers: Do not use standard deviation around the mean, use absolute deviation around the median" (2013).
 */
export class Outliers {
  readonly #options: ParsedOutliers;
  readonly #logs: RunningMedian;
  /** Of the batch that was admitted last. */
  #norm = 0;
  #outlier: Outlier | undefined = undefined;

  constructor(options: ParsedOutliers) {
    this.#options = options;
    this.#logs = new RunningMedian(options.window);
  }

  /** Why a batch must not be applied, or null: by the norm that it declares (where it is a shard), else by its own. */
  admit(declared: number | undefined, sumOfSquares: number): Refusal | null {
    this.#norm = declared !== undefined && declared >= 0 ? declared : Math.sqrt(sumOfSquares);
    const outlier = this.#judge(this.#norm);
    this.#outlier = outlier;
    if (!outlier || this.#options.policy !== 'reject') return null;
    const { norm: got, median, limit: expected } = outlier;
    return (where) => new RxgradError('normOutlier', { where, expected, median, got });
  }

  /** Counts the norm of the admitted batch, which is applied. Returns what there is to warn of. */
  applied(): Outlier | undefined {
    if (this.#norm > 0 && this.#norm < Number.POSITIVE_INFINITY) this.#logs.add(Math.log(this.#norm));
    return this.#outlier;
  }

  /** The logarithms, the oldest first. */
  state(): number[] {
    return this.#logs.state();
  }

  restore(logs: readonly number[]): void {
    this.#logs.restore(logs);
  }

  #judge(norm: number): Outlier | undefined {
    const { after, factor, floor } = this.#options;
    if (this.#logs.count < after) return undefined;
    const { median } = this.#logs;
    const limit = median + factor * Math.max(NORMAL * this.#logs.deviation(median), floor);
    return Math.log(norm) > limit ? { norm, median: Math.exp(median), limit: Math.exp(limit) } : undefined;
  }
}
