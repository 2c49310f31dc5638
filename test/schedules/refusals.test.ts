import { isRxgradError, type ScheduleConfig, schedule } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { scheduleTypes } from '../../src/schedules/from-config.ts';
import { configs } from './parameters.ts';

const step = { type: 'StepLR' };

function refusal(config: object): string {
  try {
    schedule(config as ScheduleConfig);
  } catch (error) {
    if (isRxgradError(error) && error.code === 'RXGRAD_INVALID_OPTION') return error.message;
    throw error;
  }
  return 'none';
}

describe('a schedule', () => {
  it.each<[object, string]>([
    [{ type: 'StepLR', baseLr: 0 }, 'stepLR: baseLr: expected >0, got 0'],
    [{ type: 'StepLR', stepSize: 0 }, 'stepLR: stepSize: expected >=1, got 0'],
    [{ type: 'StepLR', stepSize: 1.5 }, 'stepLR: stepSize: expected a whole number, got 1.5'],
    [{ type: 'StepLR', gamma: Number.NaN }, 'stepLR: gamma: expected number, got NaN'],
    [{ type: 'StepLR', gamma: '0.1' }, 'stepLR: gamma: expected number, got "0.1"'],
    [{ type: 'MultiStepLR', milestones: [3, 2] }, 'multiStepLR: milestones.1: expected more than the one before, got 2'],
    [{ type: 'MultiStepLR', milestones: [2, 2] }, 'multiStepLR: milestones.1: expected more than the one before, got 2'],
    [{ type: 'MultiStepLR', milestones: [0, 2] }, 'multiStepLR: milestones.0: expected >=1, got 0'],
    [{ type: 'ExponentialLR', gamma: -1 }, 'exponentialLR: gamma: expected >0, got -1'],
    [{ type: 'ExponentialDecayLR', decayRate: 0 }, 'exponentialDecayLR: decayRate: expected >0, got 0'],
    [{ type: 'ExponentialDecayLR', transitionBegin: -1 }, 'exponentialDecayLR: transitionBegin: expected >=0, got -1'],
    [{ type: 'ExponentialDecayLR', endValue: -0.1 }, 'exponentialDecayLR: endValue: expected >=0, got -0.1'],
    [{ type: 'CosineAnnealingLR', tMax: 0 }, 'cosineAnnealingLR: tMax: expected >=1, got 0'],
    [{ type: 'CosineAnnealingLR', etaMin: -1 }, 'cosineAnnealingLR: etaMin: expected >=0, got -1'],
    [{ type: 'PolynomialLR', totalIters: 0 }, 'polynomialLR: totalIters: expected >=1, got 0'],
    [{ type: 'PolynomialLR', power: -1 }, 'polynomialLR: power: expected >=0, got -1'],
    [{ type: 'WarmupScheduler', warmupEpochs: -1 }, 'warmupScheduler: warmupEpochs: expected >=0, got -1'],
    [{ type: 'WarmupScheduler', warmupStartLr: -1 }, 'warmupScheduler: warmupStartLr: expected >=0, got -1'],
    [{ type: 'CyclicLR', baseLr: 0.1, maxLr: 0.05 }, 'cyclicLR: maxLr: expected at least baseLr (0.1), got 0.05'],
    [{ type: 'CyclicLR', stepSizeDown: 0 }, 'cyclicLR: stepSizeDown: expected >=1, got 0'],
    [{ type: 'CyclicLR', mode: 'square' }, 'cyclicLR: mode: expected ("triangular" | "triangular2" | "exp_range"), got "square"'],
    [{ type: 'CyclicLR', scaleFn: 2 }, 'cyclicLR: scaleFn: expected a function, got 2'],
    [{ type: 'CyclicLR', scaleFn: () => -1 }, 'cyclicLR: scaleFn(1): expected >=0, got -1'],
    [{ type: 'OneCycleLR' }, 'oneCycleLR: expected totalSteps, or epochs and stepsPerEpoch, got neither'],
    [{ type: 'OneCycleLR', epochs: 3 }, 'oneCycleLR: expected totalSteps, or epochs and stepsPerEpoch, got epochs'],
    [
      { type: 'OneCycleLR', totalSteps: 3, epochs: 3, stepsPerEpoch: 1 },
      'oneCycleLR: expected totalSteps, or epochs and stepsPerEpoch, got totalSteps and epochs and stepsPerEpoch',
    ],
    [{ type: 'OneCycleLR', totalSteps: 9, pctStart: 0 }, 'oneCycleLR: pctStart: expected >0, got 0'],
    [{ type: 'OneCycleLR', totalSteps: 9, pctStart: 1 }, 'oneCycleLR: pctStart: expected <1, got 1'],
    [
      { type: 'OneCycleLR', totalSteps: 9, annealStrategy: 'poly' },
      'oneCycleLR: annealStrategy: expected ("cos" | "linear"), got "poly"',
    ],
    [{ type: 'ReduceLROnPlateau', factor: 1 }, 'reduceLROnPlateau: factor: expected <1, got 1'],
    [{ type: 'ReduceLROnPlateau', baseLr: 0.1, minLr: 0.2 }, 'reduceLROnPlateau: minLr: expected at most baseLr (0.1), got 0.2'],
    [{ type: 'ReduceLROnPlateau', patience: -1 }, 'reduceLROnPlateau: patience: expected >=0, got -1'],
    [{ type: 'ReduceLROnPlateau', metric: '' }, 'reduceLROnPlateau: metric: expected a name, got ""'],
    [{ type: 'LinearLR', startFactor: -1 }, 'linearLR: startFactor: expected >=0, got -1'],
    [{ type: 'ConstantLR', totalIters: -1 }, 'constantLR: totalIters: expected >=0, got -1'],
    [{ type: 'ChainedScheduler' }, 'chainedScheduler: schedulers: expected a value, got undefined'],
    [{ type: 'ChainedScheduler', schedulers: [] }, 'chainedScheduler: schedulers: expected at least one schedule, got 0'],
    [
      { type: 'ChainedScheduler', schedulers: [step, {}] },
      'chainedScheduler: schedulers.1: expected a number above 0, a schedule or its config, got {}',
    ],
    [
      { type: 'ChainedScheduler', schedulers: [step, () => 0] },
      'chainedScheduler: schedulers.1: baseLr: expected a number above 0, got 0',
    ],
    [{ type: 'ChainedScheduler', schedulers: [{ ...step, gamma: 0 }] }, 'stepLR: gamma: expected >0, got 0'],
    [
      { type: 'SequentialLR', schedulers: [step, step], milestones: [] },
      'sequentialLR: milestones: expected 1 of them, one fewer than schedulers, got 0',
    ],
    [
      { type: 'SequentialLR', schedulers: [step, step, step], milestones: [5, 4] },
      'sequentialLR: milestones.1: expected more than the one before, got 4',
    ],
    [{ type: 'SequentialLR', schedulers: [], milestones: [] }, 'sequentialLR: schedulers: expected at least one schedule, got 0'],
    [{ type: 'CosineAnnealingWarmRestarts', t0: 0 }, 'cosineAnnealingWarmRestarts: t0: expected >=1, got 0'],
    [{ type: 'CosineAnnealingWarmRestarts', tMult: 1.5 }, 'cosineAnnealingWarmRestarts: tMult: expected a whole number, got 1.5'],
    [
      { type: 'WarmupCosineSchedule', warmupSteps: 9, totalSteps: 9 },
      'warmupCosineSchedule: totalSteps: expected more than warmupSteps (9), got 9',
    ],
    [
      { type: 'PiecewiseConstantSchedule', boundaries: [1], values: [1] },
      'piecewiseConstantSchedule: values: expected 2 of them, one more than boundaries, got 1',
    ],
    [
      { type: 'PiecewiseConstantSchedule', boundaries: [2, 1], values: [1, 1, 1] },
      'piecewiseConstantSchedule: boundaries.1: expected more than the one before, got 1',
    ],
    [{ type: 'PiecewiseConstantSchedule', values: [1, 0, 1] }, 'piecewiseConstantSchedule: values.1: expected >0, got 0'],
  ])('of %j is refused', (config, message) => {
    expect(refusal(config)).toBe(message);
  });

  it.each(configs)('$type ($#) takes no option that it does not know', (config) => {
    expect(refusal({ ...config, stepsize: 3 })).toMatch(/^\w+: stepsize: expected no such option, got/);
  });

  it('of no known type is refused with those that are', () => {
    const message = refusal({ type: 'CosineLR' });
    expect(message).toMatch(/^schedule: type: expected .*, got "CosineLR"$/);
    for (const type of Object.keys(scheduleTypes)) expect(message).toContain(`"${type}"`);
  });
});

it('has configs that the compiler checks, parts included', () => {
  const wrong: ScheduleConfig[] = [
    // @ts-expect-error no such type
    { type: 'CosineLR' },
    // @ts-expect-error an option of another type
    { type: 'StepLR', tMax: 3 },
    // @ts-expect-error milestones are needed
    { type: 'SequentialLR', schedulers: [0.1] },
    // @ts-expect-error a part with a wrong option
    { type: 'ChainedScheduler', schedulers: [{ type: 'StepLR', stepSize: '3' }] },
  ];
  for (const config of wrong) expect(refusal(config)).not.toBe('none');
});
