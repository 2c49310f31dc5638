import * as v from 'valibot';
import { RxgradError } from '../errors.ts';
import { nonNegative, parseOptions, positive } from '../options.ts';
import { type Schedule, tickedSchedule } from './schedule.ts';
import { stepLR, type stepLRSchema } from './step-lr.ts';

const types = { StepLR: stepLR } as const;

/** A schedule as plain data: its type and its options, with braintools' names in camel case. */
export type ScheduleConfig = { readonly type: 'StepLR' } & Readonly<v.InferInput<typeof stepLRSchema>>;

/** A rate: a number, a schedule, its config, or any function of the epochs that have ended. */
export type LearningRate = number | Schedule | ScheduleConfig | ((ticks: number) => number);

/**
 * Builds a schedule from plain data.
 *
 * @example
 * schedule({ type: 'StepLR', baseLr: 0.1, stepSize: 30, gamma: 0.1 }).lr; // 0.1
 */
export function schedule(config: ScheduleConfig): Schedule {
  const { type, ...options } = parseOptions(v.looseObject({ type: v.picklist(Object.keys(types)) }), config, 'schedule');
  return types[type as keyof typeof types](options);
}

/** Turns what a user gives as a rate into a schedule of one's own. */
export function scheduleOf(lr: LearningRate): Schedule {
  if (typeof lr === 'number') {
    const rate = parseOptions(positive, lr, 'lr');
    return tickedSchedule(() => rate);
  }
  if (typeof lr === 'function') return tickedSchedule((ticks) => parseOptions(nonNegative, lr(ticks), `lr(${ticks})`));
  if (typeof lr === 'object' && lr !== null && 'type' in lr) return schedule(lr);
  if (typeof lr?.fresh === 'function') return lr.fresh();
  throw new RxgradError('invalidOption', {
    option: 'lr',
    expected: 'a number above 0, a schedule or its config',
    got: typeof lr === 'object' ? JSON.stringify(lr) : String(lr),
  });
}
