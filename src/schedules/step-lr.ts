import * as v from 'valibot';
import { count, parseOptions, positive } from '../options.ts';
import { baseLr, type OptionsOf } from './options.ts';
import { type Schedule, tickedSchedule } from './schedule.ts';

export const stepLRSchema = v.strictObject({
  baseLr,
  stepSize: v.optional(count, 30),
  gamma: v.optional(positive, 0.1),
});

/**
 * Multiplies the rate by `gamma` every `stepSize` ticks: baseLr · gamma^⌊ticks / stepSize⌋.
 * Defaults: baseLr 1e-3, stepSize 30, gamma 0.1.
 *
 * torch.optim.lr_scheduler.StepLR.
 *
 * @example
 * const rate = stepLR({ baseLr: 0.1, stepSize: 2, gamma: 0.5 });
 * rate.tick();
 * rate.tick();
 * rate.lr; // 0.05
 */
export function stepLR(options: OptionsOf<typeof stepLRSchema> = {}): Schedule {
  const { baseLr, stepSize, gamma } = parseOptions(stepLRSchema, options, 'stepLR');
  return tickedSchedule({ type: 'StepLR', ...options }, baseLr, (ticks) => baseLr * gamma ** Math.floor(ticks / stepSize));
}
