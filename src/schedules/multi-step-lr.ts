import * as v from 'valibot';
import { parseOptions, positive } from '../options.ts';
import { baseLr, milestones, type OptionsOf } from './options.ts';
import { passed } from './passed.ts';
import { type Schedule, tickedSchedule } from './schedule.ts';

export const multiStepLRSchema = v.strictObject({
  baseLr,
  milestones: v.optional(milestones, [30, 60, 90]),
  gamma: v.optional(positive, 0.1),
});

/**
 * Multiplies the rate by `gamma` at each milestone: baseLr · gamma^n, where n milestones are at most `ticks`.
 * Defaults: baseLr 1e-3, milestones [30, 60, 90], gamma 0.1.
 *
 * torch.optim.lr_scheduler.MultiStepLR.
 */
export function multiStepLR(options: OptionsOf<typeof multiStepLRSchema> = {}): Schedule {
  const { baseLr, milestones, gamma } = parseOptions(multiStepLRSchema, options, 'multiStepLR');
  return tickedSchedule({ type: 'MultiStepLR', ...options }, baseLr, (ticks) => baseLr * gamma ** passed(milestones, ticks));
}
