import * as v from 'valibot';
import { parseOptions, positive } from '../options.ts';
import { baseLr, type OptionsOf } from './options.ts';
import { type Schedule, tickedSchedule } from './schedule.ts';

export const exponentialLRSchema = v.strictObject({ baseLr, gamma: v.optional(positive, 0.95) });

/**
 * Multiplies the rate by `gamma` at every tick: baseLr · gamma^ticks.
 * Defaults: baseLr 1e-3, gamma 0.95.
 *
 * torch.optim.lr_scheduler.ExponentialLR.
 */
export function exponentialLR(options: OptionsOf<typeof exponentialLRSchema> = {}): Schedule {
  const { baseLr, gamma } = parseOptions(exponentialLRSchema, options, 'exponentialLR');
  return tickedSchedule({ type: 'ExponentialLR', ...options }, baseLr, (ticks) => baseLr * gamma ** ticks);
}
