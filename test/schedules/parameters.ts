import type { ScheduleConfig } from 'rxgrad';

/** Every schedule, and every way through its formula: what the laws are held to. */
export const configs: readonly ScheduleConfig[] = [
  { type: 'StepLR', baseLr: 0.1, stepSize: 7, gamma: 0.5 },
  { type: 'MultiStepLR', baseLr: 0.1, milestones: [3, 40, 41] },
  { type: 'ExponentialLR', baseLr: 0.1, gamma: 0.97 },
  { type: 'ExponentialDecayLR', baseLr: 0.1, decaySteps: 6, decayRate: 0.7, endValue: 0 },
  { type: 'ExponentialDecayLR', baseLr: 0.1, decaySteps: 6, decayRate: 1.5, staircase: true, transitionBegin: 4, endValue: 2 },
  { type: 'CosineAnnealingLR', baseLr: 0.1, tMax: 30, etaMin: 0.001 },
  { type: 'PolynomialLR', baseLr: 0.1, totalIters: 20, power: 1.7 },
  { type: 'WarmupScheduler', baseLr: 0.1, warmupEpochs: 9 },
  { type: 'CyclicLR', baseLr: 0.01, maxLr: 0.1, stepSizeUp: 5, stepSizeDown: 3 },
  { type: 'CyclicLR', baseLr: 0.01, maxLr: 0.1, stepSizeUp: 5, mode: 'triangular2' },
  { type: 'CyclicLR', baseLr: 0.01, maxLr: 0.1, stepSizeUp: 5, mode: 'exp_range', gamma: 0.98 },
  { type: 'CyclicLR', baseLr: 0.01, maxLr: 0.1, stepSizeUp: 5, scaleFn: (x) => 1 / (1 + x), scaleMode: 'iterations' },
  { type: 'OneCycleLR', maxLr: 0.1, totalSteps: 60 },
  { type: 'OneCycleLR', maxLr: 0.1, epochs: 4, stepsPerEpoch: 10, annealStrategy: 'linear' },
  { type: 'ReduceLROnPlateau', baseLr: 0.1, factor: 0.5, patience: 2, cooldown: 3, metric: 'loss' },
  { type: 'ReduceLROnPlateau', baseLr: 0.1, factor: 0.9, patience: 0, mode: 'max', thresholdMode: 'abs', minLr: 0.01 },
  { type: 'LinearLR', baseLr: 0.1, startFactor: 0.2, endFactor: 0.9, totalIters: 11 },
  { type: 'ConstantLR', baseLr: 0.1, factor: 0.4, totalIters: 12 },
  {
    type: 'ChainedScheduler',
    schedulers: [
      { type: 'WarmupScheduler', baseLr: 0.1, warmupEpochs: 4 },
      { type: 'ReduceLROnPlateau', baseLr: 0.2, patience: 1 },
    ],
  },
  {
    type: 'SequentialLR',
    milestones: [10, 33],
    schedulers: [
      { type: 'LinearLR', baseLr: 0.1 },
      {
        type: 'ChainedScheduler',
        schedulers: [
          { type: 'ExponentialLR', baseLr: 0.1 },
          { type: 'StepLR', stepSize: 9 },
        ],
      },
      { type: 'ReduceLROnPlateau', baseLr: 0.05, patience: 3 },
    ],
  },
  { type: 'CosineAnnealingWarmRestarts', baseLr: 0.1, t0: 5, tMult: 2, etaMin: 0.001 },
  { type: 'CosineAnnealingWarmRestarts', baseLr: 0.1, t0: 7 },
  { type: 'WarmupCosineSchedule', baseLr: 0.1, warmupSteps: 6, totalSteps: 50 },
  { type: 'PiecewiseConstantSchedule', boundaries: [5, 12], values: [0.3, 0.1, 0.02] },
];
