/**
 * What is known of the mean of some differences after each of them, however often one looks: each end of the interval is wrong
 * at any time, of all that may ever come, with at most the error rate that it was made for.
 */
export interface ConfidenceSequence {
  readonly count: number;
  /** Of what came; 0 before anything did. */
  readonly mean: number;
  add(difference: number): void;
  /** Whether the mean is shown to lie below a bound. */
  isBelow(bound: number): boolean;
  /** Whether the mean is shown to lie above a bound. */
  isAbove(bound: number): boolean;
  /** The means that are not ruled out. */
  interval(): { readonly low: number; readonly high: number };
}
