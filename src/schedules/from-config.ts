import * as v from 'valibot';
import { RxgradError } from '../errors.ts';
import { nonNegative, parseOptions, positive } from '../options.ts';
import { constantLR, constantLRSchema } from './constant-lr.ts';
import { cosineAnnealingLR, cosineAnnealingLRSchema } from './cosine-annealing-lr.ts';
import { cosineAnnealingWarmRestarts, cosineAnnealingWarmRestartsSchema } from './cosine-annealing-warm-restarts.ts';
import { cyclicLR, cyclicLRSchema } from './cyclic-lr.ts';
import { exponentialDecayLR, exponentialDecayLRSchema } from './exponential-decay-lr.ts';
import { exponentialLR, exponentialLRSchema } from './exponential-lr.ts';
import { linearLR, linearLRSchema } from './linear-lr.ts';
import { multiStepLR, multiStepLRSchema } from './multi-step-lr.ts';
import { oneCycleLR, oneCycleLRSchema } from './one-cycle-lr.ts';
import { milestones, type OptionsOf } from './options.ts';
import { piecewiseConstantSchedule, piecewiseConstantScheduleSchema } from './piecewise-constant-schedule.ts';
import { polynomialLR, polynomialLRSchema } from './polynomial-lr.ts';
import { product } from './product.ts';
import { reduceLROnPlateau, reduceLROnPlateauSchema } from './reduce-lr-on-plateau.ts';
import { type Schedule, tickedSchedule } from './schedule.ts';
import { sequence } from './sequence.ts';
import { stepLR, stepLRSchema } from './step-lr.ts';
import { warmupCosineSchedule, warmupCosineScheduleSchema } from './warmup-cosine-schedule.ts';
import { warmupScheduler, warmupSchedulerSchema } from './warmup-scheduler.ts';

// Which rates these are is said by ScheduleConfig; a schema that said so too would refer to itself.
const schedulers = v.pipe(v.array(v.unknown()), v.minLength(1, 'at least one schedule'));
const chainedSchema = v.strictObject({ schedulers });
const sequentialSchema = v.strictObject({ schedulers, milestones });

/** The one table of schedules: the name in a config, the options, and what makes a schedule of them. */
export const scheduleTypes = {
  StepLR: { schema: stepLRSchema, make: stepLR },
  MultiStepLR: { schema: multiStepLRSchema, make: multiStepLR },
  ExponentialLR: { schema: exponentialLRSchema, make: exponentialLR },
  ExponentialDecayLR: { schema: exponentialDecayLRSchema, make: exponentialDecayLR },
  CosineAnnealingLR: { schema: cosineAnnealingLRSchema, make: cosineAnnealingLR },
  PolynomialLR: { schema: polynomialLRSchema, make: polynomialLR },
  WarmupScheduler: { schema: warmupSchedulerSchema, make: warmupScheduler },
  CyclicLR: { schema: cyclicLRSchema, make: cyclicLR },
  OneCycleLR: { schema: oneCycleLRSchema, make: oneCycleLR },
  ReduceLROnPlateau: { schema: reduceLROnPlateauSchema, make: reduceLROnPlateau },
  LinearLR: { schema: linearLRSchema, make: linearLR },
  ConstantLR: { schema: constantLRSchema, make: constantLR },
  ChainedScheduler: {
    schema: chainedSchema,
    make(options: unknown): Schedule {
      const { schedulers } = parseOptions(chainedSchema, options, 'chainedScheduler');
      return product(partsOf(schedulers, 'chainedScheduler'));
    },
  },
  SequentialLR: {
    schema: sequentialSchema,
    make(options: unknown): Schedule {
      const { schedulers, milestones } = parseOptions(sequentialSchema, options, 'sequentialLR');
      return sequence(partsOf(schedulers, 'sequentialLR'), milestones);
    },
  },
  CosineAnnealingWarmRestarts: { schema: cosineAnnealingWarmRestartsSchema, make: cosineAnnealingWarmRestarts },
  WarmupCosineSchedule: { schema: warmupCosineScheduleSchema, make: warmupCosineSchedule },
  PiecewiseConstantSchedule: { schema: piecewiseConstantScheduleSchema, make: piecewiseConstantSchedule },
} as const;

type Types = typeof scheduleTypes;
/** The name of a schedule in a config, as braintools has it. */
export type ScheduleType = keyof Types;
type WithParts<O> = { readonly [P in keyof O]: P extends 'schedulers' ? readonly LearningRate[] : O[P] };
/** What the schedule of this type takes. */
export type OptionsFor<T extends ScheduleType> = WithParts<OptionsOf<Types[T]['schema']>>;

/** A schedule as plain data: its type and its options, with braintools' names in camel case. */
export type ScheduleConfig = { [T in ScheduleType]: { readonly type: T } & OptionsFor<T> }[ScheduleType];

/** A rate: a number, a schedule, its config, or any function of the epochs that have ended. */
export type LearningRate = number | Schedule | ScheduleConfig | ((ticks: number) => number);

/**
 * Builds a schedule from plain data.
 *
 * @example
 * schedule({ type: 'StepLR', baseLr: 0.1, stepSize: 30, gamma: 0.1 }).lr; // 0.1
 */
export function schedule(config: ScheduleConfig): Schedule {
  const { type, ...options } = parseOptions(v.looseObject({ type: v.picklist(Object.keys(scheduleTypes)) }), config, 'schedule');
  return scheduleTypes[type as ScheduleType].make(options as never);
}

/** Turns what a user gives as a rate into a schedule of one's own. */
export function scheduleOf(lr: LearningRate, option = 'lr'): Schedule {
  if (typeof lr === 'number') {
    const rate = parseOptions(positive, lr, option);
    return tickedSchedule(rate, rate, () => rate);
  }
  if (typeof lr === 'function') {
    const rateAt = (ticks: number) => parseOptions(nonNegative, lr(ticks), `${option}(${ticks})`);
    return tickedSchedule(null, rateAt(0), rateAt);
  }
  if (typeof lr === 'object' && lr !== null && 'type' in lr) return schedule(lr);
  if (typeof lr?.fresh === 'function') return lr.fresh();
  throw new RxgradError('invalidOption', {
    option,
    expected: 'a number above 0, a schedule or its config',
    got: typeof lr === 'object' ? JSON.stringify(lr) : String(lr),
  });
}

function partsOf(schedulers: readonly unknown[], where: string): Schedule[] {
  return schedulers.map((part, i) => scheduleOf(part as LearningRate, `${where}: schedulers.${i}`));
}
