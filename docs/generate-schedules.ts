import { mkdirSync, writeFileSync } from 'node:fs';
import {
  type OptionsFor,
  type ScheduleConfig,
  type ScheduleType,
  schedule,
  scheduleTypes,
} from '../src/schedules/from-config.ts';
import { docstringOf, fileOf } from './docstrings.ts';
import { code } from './markdown.ts';
import { optionsOf, sectionHead } from './option-table.ts';
import { scheduleCurve } from './schedule-curve.ts';

interface Example<T extends ScheduleType> {
  readonly options: OptionsFor<T>;
  readonly ticks: number;
  /** What each tick brings. */
  readonly metric?: (tick: number) => number;
}

/** What the pictures show. */
const examples: { readonly [T in ScheduleType]: Example<T> } = {
  StepLR: { options: { baseLr: 0.1, stepSize: 30, gamma: 0.5 }, ticks: 120 },
  MultiStepLR: { options: { baseLr: 0.1, milestones: [20, 60, 80], gamma: 0.5 }, ticks: 120 },
  ExponentialLR: { options: { baseLr: 0.1, gamma: 0.97 }, ticks: 120 },
  ExponentialDecayLR: {
    options: { baseLr: 0.1, decaySteps: 15, decayRate: 0.7, transitionBegin: 20, staircase: true, endValue: 0.02 },
    ticks: 120,
  },
  CosineAnnealingLR: { options: { baseLr: 0.1, tMax: 100, etaMin: 0.01 }, ticks: 120 },
  PolynomialLR: { options: { baseLr: 0.1, totalIters: 100, power: 2 }, ticks: 120 },
  WarmupScheduler: { options: { baseLr: 0.1, warmupEpochs: 40, warmupStartLr: 0.01 }, ticks: 120 },
  CyclicLR: { options: { baseLr: 0.01, maxLr: 0.1, stepSizeUp: 20, stepSizeDown: 10, mode: 'triangular2' }, ticks: 120 },
  OneCycleLR: { options: { maxLr: 0.1, totalSteps: 100 }, ticks: 120 },
  ReduceLROnPlateau: {
    options: { baseLr: 0.1, factor: 0.5, patience: 5, threshold: 0.01 },
    ticks: 120,
    metric: (tick) => 0.2 + Math.max(0.8 - tick / 40, tick < 80 ? 0.3 : 0.3 - (tick - 80) / 100, 0),
  },
  LinearLR: { options: { baseLr: 0.1, startFactor: 0.1, endFactor: 0.8, totalIters: 40 }, ticks: 120 },
  ConstantLR: { options: { baseLr: 0.1, factor: 0.25, totalIters: 40 }, ticks: 120 },
  ChainedScheduler: {
    options: {
      schedulers: [
        { type: 'WarmupScheduler', baseLr: 0.1, warmupEpochs: 20 },
        { type: 'ExponentialLR', baseLr: 0.1, gamma: 0.98 },
      ],
    },
    ticks: 120,
  },
  SequentialLR: {
    options: {
      schedulers: [
        { type: 'LinearLR', baseLr: 0.1, startFactor: 0.1, totalIters: 20 },
        { type: 'CosineAnnealingLR', baseLr: 0.1, tMax: 80 },
      ],
      milestones: [20],
    },
    ticks: 120,
  },
  CosineAnnealingWarmRestarts: { options: { baseLr: 0.1, t0: 15, tMult: 2, etaMin: 0.005 }, ticks: 120 },
  WarmupCosineSchedule: { options: { baseLr: 0.1, warmupSteps: 20, totalSteps: 100, etaMin: 0.005 }, ticks: 120 },
  PiecewiseConstantSchedule: { options: { boundaries: [30, 80], values: [0.1, 0.04, 0.01] }, ticks: 120 },
};

/** The page of schedules and its pictures: text by path in this folder. */
export function schedulePages(): Record<string, string> {
  const types = Object.keys(scheduleTypes) as ScheduleType[];
  const page = [
    '# Learning-rate schedules',
    '',
    'Made by `npm run docs:generate` from `src/schedules`. A schedule is a function of the epochs that have ended, its *ticks*;',
    'its value at 0 ticks holds from the first step, and a tick changes the rate of the next one. Each is built by its function, or',
    "from plain data by `schedule({ type, …options })`, with braintools' names in camel case.",
    '',
    ...types.flatMap(sectionOf),
  ];
  return {
    'schedules.md': page.join('\n'),
    ...Object.fromEntries(types.map((type) => [`schedules/${fileName(type)}.svg`, pictureOf(type)])),
  };
}

export function writeSchedulePages(): void {
  mkdirSync(new URL('./schedules/', import.meta.url), { recursive: true });
  for (const [path, text] of Object.entries(schedulePages())) writeFileSync(new URL(path, import.meta.url), text);
}

function sectionOf(type: ScheduleType): string[] {
  const options = optionsOf(scheduleTypes[type].schema.entries, 'schedule, config, number or function');
  const name = type[0]!.toLowerCase() + type.slice(1);
  const [text, references] = docstringOf(`schedules/${fileName(type)}.ts`, name);
  const example = code({ type, ...examples[type].options });
  return [
    ...sectionHead(type, text!, options),
    `Reference: ${references}`,
    '',
    `![The rate over ticks](schedules/${fileName(type)}.svg)`,
    '',
    `\`schedule(${example})\`${examples[type].metric ? '; dashed, the metric that it looks at.' : ''}`,
    '',
  ];
}

function pictureOf(type: ScheduleType): string {
  const { options, ticks, metric } = examples[type];
  const rate = schedule({ type, ...options } as ScheduleConfig);
  const metrics = Array.from({ length: metric ? ticks : 0 }, (_, tick) => metric!(tick));
  const rates = Array.from({ length: ticks }, (_, tick) => {
    const { lr } = rate;
    rate.tick(metrics[tick]);
    return lr;
  });
  return scheduleCurve(type, rates, metrics);
}

function fileName(type: ScheduleType): string {
  return fileOf(type.replace('LR', 'Lr'));
}
