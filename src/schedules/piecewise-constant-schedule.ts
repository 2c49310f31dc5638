import * as v from 'valibot';
import { expectOption, parseOptions, positive } from '../options.ts';
import { baseLr, milestones, type OptionsOf } from './options.ts';
import { passed } from './passed.ts';
import { type Schedule, tickedSchedule } from './schedule.ts';

export const piecewiseConstantScheduleSchema = v.strictObject({
  baseLr,
  boundaries: v.optional(milestones, [1000, 2000]),
  values: v.optional(v.array(positive), [1, 0.1, 0.01]),
});

/**
 * Takes the rates from a list: values[n], where n boundaries are at most `ticks`. `baseLr` matters only in a
 * ChainedScheduler, which multiplies by values[n] / baseLr.
 * Defaults: baseLr 1e-3, boundaries [1000, 2000], values [1, 0.1, 0.01].
 *
 * optax.piecewise_constant_schedule, with rates for its factors.
 */
export function piecewiseConstantSchedule(options: OptionsOf<typeof piecewiseConstantScheduleSchema> = {}): Schedule {
  const where = 'piecewiseConstantSchedule';
  const { baseLr, boundaries, values } = parseOptions(piecewiseConstantScheduleSchema, options, where);
  const expected = `${boundaries.length + 1} of them, one more than boundaries`;
  expectOption(values.length === boundaries.length + 1, `${where}: values`, expected, values.length);
  return tickedSchedule({ type: 'PiecewiseConstantSchedule', ...options }, baseLr, (ticks) => values[passed(boundaries, ticks)]!);
}
