import MersenneTwister from 'mersenne-twister';
import { RxgradError } from '../../src/errors.ts';

/** A labelled event of SEA: three features from 0 to 10, of which only the first two say what the label is. */
export interface SeaEvent {
  readonly x: readonly [number, number, number];
  readonly y: 0 | 1;
}

export interface SeaOptions {
  /** Which concept: 0 to 3, with thresholds 8, 9, 7 and 9.5. Default: 0. */
  readonly variant?: 0 | 1 | 2 | 3;
  /** Share of labels that are flipped, from 0 to 1. Default: 0. */
  readonly noise?: number;
  /** An integer from 0 to 2³² − 1. The same seed gives the same events, here and in Python. */
  readonly seed: number;
}

export interface SeaDriftOptions {
  /** Events of each concept. Default: 12,500. */
  readonly eventsPerConcept?: number;
  /** Share of labels that are flipped. Default: 0.1. */
  readonly noise?: number;
  /** Seed of the first concept; each later one has the next seed. Default: 42. */
  readonly seed?: number;
}

/** θ of each variant. */
export const thresholds = [8, 9, 7, 9.5] as const;

/**
 * Generates SEA without end: y = x₀ + x₁ > θ, event for event as river 0.26.1 does.
 *
 * @example
 * const first = sea({ seed: 42 }).next().value; // { x: [6.394…, 0.250…, 2.750…], y: 0 }
 *
 * @see W. N. Street and Y. Kim, "A streaming ensemble algorithm (SEA) for large-scale classification", KDD 2001
 */
export function sea({ variant = 0, noise = 0, seed }: SeaOptions): Generator<SeaEvent, never> {
  const threshold = thresholds[variant];
  if (threshold === undefined)
    throw new RxgradError('invalidOption', { option: 'variant', expected: '0, 1, 2 or 3', got: variant });
  if (!(noise >= 0 && noise <= 1))
    throw new RxgradError('invalidOption', { option: 'noise', expected: 'a share from 0 to 1', got: noise });
  if (seed !== seed >>> 0)
    throw new RxgradError('invalidOption', { option: 'seed', expected: 'an integer from 0 to 2³² − 1', got: seed });
  return events(threshold, noise, seed);
}

/** Generates the four concepts of SEA one after the other, each beginning abruptly: 0 → 1 → 2 → 3. */
export function* seaAbruptDrift({
  eventsPerConcept = 12_500,
  noise = 0.1,
  seed = 42,
}: SeaDriftOptions = {}): Generator<SeaEvent, void> {
  for (const variant of [0, 1, 2, 3] as const) {
    const concept = sea({ variant, noise, seed: seed + variant });
    for (let i = 0; i < eventsPerConcept; i++) yield concept.next().value;
  }
}

function* events(threshold: number, noise: number, seed: number): Generator<SeaEvent, never> {
  // Python seeds with the array of the seed's 32-bit words, and draws 53 bits for each number.
  const random = new MersenneTwister([seed]);
  while (true) {
    const x = [10 * random.random_long(), 10 * random.random_long(), 10 * random.random_long()] as const;
    // Noise is drawn after the features, and only where there is any.
    const flipped = noise > 0 && random.random_long() < noise;
    yield { x, y: x[0] + x[1] > threshold !== flipped ? 1 : 0 };
  }
}
