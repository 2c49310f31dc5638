import { describe, expect, it } from 'vitest';
import { series } from '../../src/gates/empirical-bernstein.ts';
import { type TestName, tests } from '../../src/gates/sequential-tests.ts';
import { type Draw, even, inSpells, rare, zeroOne } from './differences.ts';

const errorRate = 0.05;
const margin = 0.02;
const streams = 2000;
const examples = 3000;
const sequenceOf = (test: TestName) => tests[test]({ errorRate, bound: 1, effect: margin });

/** Of so many streams, how many are shown at any time to have a mean below the margin. */
function wronglyShown(test: TestName, make: () => Draw): number {
  let wrong = 0;
  for (let stream = 0; stream < streams; stream++) {
    const sequence = sequenceOf(test);
    const draw = make();
    for (let n = 0; n < examples; n++) {
      sequence.add(draw());
      if (!sequence.isBelow(margin)) continue;
      wrong += 1;
      break;
    }
  }
  return wrong / streams;
}

/** How many examples it takes to show a mean below the margin, in the middle of some streams. */
function examplesNeeded(test: TestName, draw: Draw): number {
  const needed = Array.from({ length: 101 }, () => {
    const sequence = sequenceOf(test);
    while (!sequence.isBelow(margin) && sequence.count < 20_000) sequence.add(draw());
    return sequence.count;
  });
  return needed.toSorted((a, b) => a - b)[50]!;
}

describe('the empirical-Bernstein confidence sequence', () => {
  it('has the mixture of confseq', () => {
    // confseq 0.0.6: gamma_exponential_log_mixture(10, 100, v_opt 100, c 2), and where the mixture reaches 20.
    const rho = 100 / (2 * Math.log(10) + Math.log1p(2 * Math.log(10)));
    const mixture = (s: number, v: number): number =>
      series((v + rho) / 4, (2 * s + v + rho) / 4, Number.POSITIVE_INFINITY) / series(rho / 4, rho / 4, Number.POSITIVE_INFINITY);
    expect(Math.log(mixture(10, 100))).toBeCloseTo(-0.2490165, 6);
    expect(mixture(33.02017, 100)).toBeCloseTo(20, 4);
  });

  // The means are the margin itself: the worst that still counts as not shown.
  const worst: Record<string, () => Draw> = {
    'losses of 0 and 1': () => zeroOne(0.035, 0.015),
    'losses of 0 and 1 that differ often': () => zeroOne(0.16, 0.14),
    'losses that are only ever worse': () => zeroOne(margin, 0),
    'heavy skew': () => rare(0.03, margin),
    'still heavier skew': () => rare(0.005, margin),
    'a narrow range': () => even(margin, 0.1),
    'times of other spread': () => inSpells(margin),
  };
  it.each(Object.entries(worst))('is wrong at any time in at most the share it promises: %s', (_, make) => {
    expect(wronglyShown('empiricalBernstein', make)).toBeLessThanOrEqual(errorRate);
  });

  it('covers the mean with its interval, of which neither end turns back what was shown', () => {
    const sequence = sequenceOf('empiricalBernstein');
    expect(sequence.interval()).toEqual({ low: -1, high: 1 });
    const draw = zeroOne(0.1, 0.3);
    while (!sequence.isBelow(-0.1)) sequence.add(draw());
    const { low, high } = sequence.interval();
    expect(high).toBeLessThanOrEqual(-0.1);
    expect(high).toBeGreaterThan(-0.11);
    expect(low).toBeLessThan(-0.2);
    expect(high - sequence.mean).toBeCloseTo(sequence.mean - low, 12);
  });

  it('tells soon what differs much', () => {
    const sequence = sequenceOf('empiricalBernstein');
    const draw = zeroOne(0.32, 0.02);
    while (!sequence.isAbove(margin)) sequence.add(draw());
    expect(sequence.count).toBeLessThan(150);
  });

  it.each([
    ['never differs', (): number => 0, 210],
    ['differs in 1 % of the examples', zeroOne(0.005, 0.005), 450],
    ['differs in 5 % of the examples', zeroOne(0.025, 0.025), 1900],
    ['is two points better', zeroOne(0.02, 0.04), 550],
  ] as const)('shows what %s within some hundred examples', (_, draw, most) => {
    expect(examplesNeeded('empiricalBernstein', draw)).toBeLessThanOrEqual(most);
  });
});

describe('the mixture SPRT', () => {
  it.each([
    ['losses of 0 and 1', () => zeroOne(0.035, 0.015)],
    ['losses of 0 and 1 that differ often', () => zeroOne(0.16, 0.14)],
    ['a narrow range', () => even(margin, 0.1)],
  ] as const)('keeps its share of errors where differences are many and not skewed: %s', (_, make) => {
    expect(wronglyShown('mixtureSprt', make)).toBeLessThanOrEqual(errorRate);
  });

  it('does not keep it under heavy skew, as its documentation says', () => {
    expect(wronglyShown('mixtureSprt', () => rare(0.03, margin))).toBeGreaterThan(errorRate);
  });

  it('is sooner, and shows nothing before 100 examples', () => {
    const draw = zeroOne(0.025, 0.025);
    expect(examplesNeeded('mixtureSprt', draw)).toBeLessThan(examplesNeeded('empiricalBernstein', draw));
    expect(examplesNeeded('mixtureSprt', () => -1)).toBe(100);
    const sequence = sequenceOf('mixtureSprt');
    expect(sequence.interval()).toEqual({ low: -1, high: 1 });
    for (let n = 0; n < 100; n++) sequence.add(1);
    expect(sequence.isAbove(0)).toBe(true);
    expect(sequence.interval().low).toBeGreaterThan(0.5);
  });
});
