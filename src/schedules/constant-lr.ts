import * as v from 'valibot';
import { nonNegative, parseOptions } from '../options.ts';
import { baseLr, duration, type OptionsOf } from './options.ts';
import { type Schedule, tickedSchedule } from './schedule.ts';

export const constantLRSchema = v.strictObject({
  baseLr,
  factor: v.optional(nonNegative, 1 / 3),
  totalIters: v.optional(duration, 5),
});

/**
 * Holds the rate at a share of `baseLr` for a while: baseLr · factor where ticks < totalIters, then baseLr.
 * Defaults: baseLr 1e-3, factor 1/3, totalIters 5.
 *
 * torch.optim.lr_scheduler.ConstantLR.
 */
export function constantLR(options: OptionsOf<typeof constantLRSchema> = {}): Schedule {
  const { baseLr, factor, totalIters } = parseOptions(constantLRSchema, options, 'constantLR');
  return tickedSchedule({ type: 'ConstantLR', ...options }, baseLr, (ticks) => (ticks < totalIters ? baseLr * factor : baseLr));
}
