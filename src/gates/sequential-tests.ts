import type { ConfidenceSequence } from './confidence-sequence.ts';
import { EmpiricalBernstein } from './empirical-bernstein.ts';
import { MixtureSprt } from './mixture-sprt.ts';

export interface SequenceOptions {
  readonly errorRate: number;
  /** The largest absolute value that a difference can have. */
  readonly bound: number;
  /** The size of the mean that it should be quick to tell from zero. */
  readonly effect: number;
}

/** The tests by name: how a sequence of each is made. */
export const tests = {
  empiricalBernstein: ({ errorRate, bound }: SequenceOptions): ConfidenceSequence => new EmpiricalBernstein(errorRate, bound),
  mixtureSprt: ({ errorRate, bound, effect }: SequenceOptions): ConfidenceSequence => new MixtureSprt(errorRate, bound, effect),
} as const;

export type TestName = keyof typeof tests;
