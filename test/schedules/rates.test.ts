import {
  constantLR,
  cosineAnnealingLR,
  cosineAnnealingWarmRestarts,
  cyclicLR,
  exponentialDecayLR,
  exponentialLR,
  linearLR,
  multiStepLR,
  oneCycleLR,
  piecewiseConstantSchedule,
  polynomialLR,
  type Schedule,
  stepLR,
  warmupCosineSchedule,
  warmupScheduler,
} from 'rxgrad';
import { expect, it } from 'vitest';

type Rates = Readonly<Record<number, number>>;

/** At a tick that may be far: schedules are functions of their ticks, so a restored one is where a ticked one would be. */
function rateAt(rate: Schedule, ticks: number): number {
  const there = rate.fresh();
  there.restore({ ticks });
  return there.lr;
}

const half = Math.SQRT1_2;

it.each<[string, Schedule, Rates]>([
  ['stepLR by default', stepLR(), { 0: 1e-3, 29: 1e-3, 30: 1e-4, 60: 1e-5 }],
  ['stepLR', stepLR({ baseLr: 1, stepSize: 2, gamma: 0.5 }), { 1: 1, 2: 0.5, 3: 0.5, 4: 0.25 }],
  ['multiStepLR by default', multiStepLR(), { 29: 1e-3, 30: 1e-4, 60: 1e-5, 90: 1e-6, 900: 1e-6 }],
  ['multiStepLR without milestones', multiStepLR({ baseLr: 2, milestones: [] }), { 0: 2, 500: 2 }],
  ['exponentialLR by default', exponentialLR(), { 0: 1e-3, 1: 9.5e-4, 2: 9.025e-4 }],
  ['exponentialDecayLR by default', exponentialDecayLR(), { 0: 1e-3, 500: 1e-3 * Math.sqrt(0.96), 1000: 9.6e-4 }],
  [
    'exponentialDecayLR in stairs, later, down to a floor',
    exponentialDecayLR({ baseLr: 1, decaySteps: 2, decayRate: 0.5, staircase: true, transitionBegin: 3, endValue: 0.2 }),
    { 0: 1, 4: 1, 5: 0.5, 6: 0.5, 7: 0.25, 9: 0.2, 999: 0.2 },
  ],
  [
    'exponentialDecayLR growing up to a ceiling',
    exponentialDecayLR({ baseLr: 1, decaySteps: 1, decayRate: 2, endValue: 5 }),
    { 1: 2, 2: 4, 3: 5, 2000: 5 },
  ],
  [
    'exponentialDecayLR without an end',
    exponentialDecayLR({ baseLr: 1, decaySteps: 1, decayRate: 0.5, endValue: null }),
    { 9: 1 / 512 },
  ],
  ['cosineAnnealingLR by default', cosineAnnealingLR(), { 0: 1e-3, 25: 5e-4, 50: 0, 75: 0, 100: 0 }],
  [
    'cosineAnnealingLR to etaMin',
    cosineAnnealingLR({ baseLr: 1, tMax: 4, etaMin: 0.2 }),
    { 0: 1, 1: 0.6 + 0.4 * half, 2: 0.6, 3: 0.6 - 0.4 * half, 4: 0.2, 8: 0.2 },
  ],
  ['cosineAnnealingLR upwards', cosineAnnealingLR({ baseLr: 0.2, tMax: 2, etaMin: 1 }), { 0: 0.2, 1: 0.6, 2: 1 }],
  ['polynomialLR by default', polynomialLR(), { 0: 1e-3, 1: 8e-4, 4: 2e-4, 5: 0, 6: 0 }],
  ['polynomialLR squared', polynomialLR({ baseLr: 1, totalIters: 4, power: 2 }), { 1: 0.5625, 2: 0.25, 3: 0.0625, 4: 0 }],
  ['warmupScheduler by default', warmupScheduler(), { 0: 0, 1: 2e-4, 4: 8e-4, 5: 1e-3, 6: 1e-3 }],
  ['warmupScheduler from a rate', warmupScheduler({ baseLr: 1, warmupEpochs: 2, warmupStartLr: 0.5 }), { 0: 0.5, 1: 0.75, 2: 1 }],
  ['warmupScheduler of no length', warmupScheduler({ baseLr: 1, warmupEpochs: 0 }), { 0: 1, 1: 1 }],
  ['linearLR by default', linearLR(), { 0: 1e-3 / 3, 5: 1e-3, 9: 1e-3 }],
  ['linearLR', linearLR({ baseLr: 2, startFactor: 1, endFactor: 0, totalIters: 4 }), { 0: 2, 1: 1.5, 3: 0.5, 4: 0, 5: 0 }],
  ['linearLR of no length', linearLR({ baseLr: 2, endFactor: 0.5, totalIters: 0 }), { 0: 1, 1: 1 }],
  ['constantLR by default', constantLR(), { 0: 1e-3 / 3, 4: 1e-3 / 3, 5: 1e-3 }],
  ['constantLR of no length', constantLR({ baseLr: 2, factor: 0, totalIters: 0 }), { 0: 2 }],
  ['cyclicLR by default', cyclicLR(), { 0: 1e-3, 1000: 5.5e-3, 2000: 1e-2, 3000: 5.5e-3, 4000: 1e-3, 6000: 1e-2 }],
  [
    'cyclicLR of unequal sides',
    cyclicLR({ baseLr: 1, maxLr: 2, stepSizeUp: 1, stepSizeDown: 4 }),
    { 0: 1, 1: 2, 2: 1.75, 3: 1.5, 4: 1.25, 5: 1, 6: 2, 1e15: 1 },
  ],
  [
    'cyclicLR halved by the cycle',
    cyclicLR({ baseLr: 1, maxLr: 2, stepSizeUp: 2, mode: 'triangular2' }),
    { 2: 2, 4: 1, 6: 1.5, 8: 1, 9: 1.125, 10: 1.25 },
  ],
  [
    'cyclicLR shrinking by the tick',
    cyclicLR({ baseLr: 1, maxLr: 2, stepSizeUp: 2, mode: 'exp_range', gamma: 0.5 }),
    { 1: 1.25, 2: 1.25, 3: 1.0625, 4: 1, 6: 1 + 1 / 64 },
  ],
  [
    'cyclicLR scaled by a function of the cycle',
    cyclicLR({ baseLr: 1, maxLr: 2, stepSizeUp: 2, scaleFn: (cycle) => 1 / cycle }),
    { 2: 2, 3: 1.5, 6: 1.5, 10: 1 + 1 / 3 },
  ],
  [
    'cyclicLR scaled by a function of the ticks',
    cyclicLR({ baseLr: 1, maxLr: 2, stepSizeUp: 2, scaleFn: (ticks) => ticks / 10, scaleMode: 'iterations' }),
    { 1: 1.05, 2: 1.2, 6: 1.6 },
  ],
  [
    'oneCycleLR',
    oneCycleLR({ maxLr: 1, totalSteps: 10, pctStart: 0.3, divFactor: 10, finalDivFactor: 100 }),
    { 0: 0.1, 1: 0.55, 2: 1, 9: 1e-3, 10: 1e-3, 1000: 1e-3 },
  ],
  [
    'oneCycleLR on straight lines, its length as a product',
    oneCycleLR({ maxLr: 1, epochs: 5, stepsPerEpoch: 4, pctStart: 0.5, annealStrategy: 'linear', finalDivFactor: 1 }),
    { 0: 0.04, 3: 0.36, 9: 1, 14: 0.52, 19: 0.04, 20: 0.04 },
  ],
  ['oneCycleLR that begins at its top', oneCycleLR({ maxLr: 1, totalSteps: 4, pctStart: 0.25 }), { 0: 1, 3: 4e-6, 4: 4e-6 }],
  [
    'cosineAnnealingWarmRestarts by default',
    cosineAnnealingWarmRestarts(),
    { 0: 1e-3, 5: 5e-4, 10: 1e-3, 15: 5e-4, 1e15: 1e-3, 1000000000000005: 5e-4 },
  ],
  [
    'cosineAnnealingWarmRestarts, twice as long each time',
    cosineAnnealingWarmRestarts({ baseLr: 1, t0: 1, tMult: 2, etaMin: 0.2 }),
    // Periods begin at 2^n − 1, and are at their middle 2^(n − 1) ticks later.
    { 0: 1, 1: 1, 2: 0.6, 3: 1, 5: 0.6, 7: 1, 11: 0.6, [2 ** 40 - 1]: 1, [2 ** 40 - 1 + 2 ** 39]: 0.6, [2 ** 52 - 1]: 1 },
  ],
  [
    'cosineAnnealingWarmRestarts, three times as long each time',
    cosineAnnealingWarmRestarts({ baseLr: 1, t0: 4, tMult: 3 }),
    // Periods begin at 2 · (3^n − 1), and last 4 · 3^n.
    { 4: 1, 10: 0.5, 16: 1, 34: 0.5, 52: 1, [2 * (3 ** 20 - 1)]: 1, [2 * (3 ** 20 - 1) + 2 * 3 ** 20]: 0.5 },
  ],
  ['warmupCosineSchedule by default', warmupCosineSchedule(), { 0: 0, 500: 5e-4, 1000: 1e-3, 5500: 5e-4, 10000: 0, 20000: 0 }],
  [
    'warmupCosineSchedule',
    warmupCosineSchedule({ baseLr: 1, warmupSteps: 2, totalSteps: 6, warmupStartLr: 0.5, etaMin: 0.2 }),
    { 0: 0.5, 1: 0.75, 2: 1, 3: 0.6 + 0.4 * half, 4: 0.6, 6: 0.2, 7: 0.2 },
  ],
  [
    'warmupCosineSchedule without a warm-up',
    warmupCosineSchedule({ baseLr: 1, warmupSteps: 0, totalSteps: 2 }),
    { 0: 1, 1: 0.5, 2: 0 },
  ],
  ['piecewiseConstantSchedule by default', piecewiseConstantSchedule(), { 0: 1, 999: 1, 1000: 0.1, 1999: 0.1, 2000: 0.01 }],
  ['piecewiseConstantSchedule of one piece', piecewiseConstantSchedule({ boundaries: [], values: [0.5] }), { 0: 0.5, 99: 0.5 }],
])('%s', (_, rate, expected) => {
  for (const [ticks, lr] of Object.entries(expected)) {
    expect(Math.abs(rateAt(rate, Number(ticks)) - lr), `after ${ticks} ticks`).toBeLessThanOrEqual(1e-14 + 1e-12 * lr);
  }
});

it('goes down to exactly its end', () => {
  expect(rateAt(cosineAnnealingLR({ baseLr: 0.3821, tMax: 13, etaMin: 0.002 }), 13)).toBe(0.002);
  expect(rateAt(oneCycleLR({ maxLr: 0.3821, totalSteps: 30 }), 29)).toBe(0.3821 / 25 / 1e4);
  expect(rateAt(warmupScheduler({ baseLr: 0.3821, warmupStartLr: 0.001 }), 5)).toBe(0.3821);
});

it.each<[string, Schedule, number]>([
  ['an ordinary schedule has its option', linearLR({ baseLr: 0.3 }), 0.3],
  ['oneCycleLR begins at its own', oneCycleLR({ maxLr: 1, totalSteps: 9, divFactor: 4 }), 0.25],
])('as base rate, %s', (_, rate, baseLr) => {
  expect(rate.baseLr).toBe(baseLr);
});
