import * as v from 'valibot';
import { nonNegative, parseOptions } from '../options.ts';
import { anneal } from './anneal.ts';
import { baseLr, duration, type OptionsOf } from './options.ts';
import { type Schedule, tickedSchedule } from './schedule.ts';

export const warmupSchedulerSchema = v.strictObject({
  baseLr,
  warmupEpochs: v.optional(duration, 5),
  warmupStartLr: v.optional(nonNegative, 0),
});

/**
 * Takes the rate from `warmupStartLr` to `baseLr` on a straight line over `warmupEpochs` ticks, and leaves it there:
 * warmupStartLr + (baseLr − warmupStartLr) · min(ticks / warmupEpochs, 1).
 * Defaults: baseLr 1e-3, warmupEpochs 5, warmupStartLr 0.
 *
 * Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour" (2017), section 2.2.
 */
export function warmupScheduler(options: OptionsOf<typeof warmupSchedulerSchema> = {}): Schedule {
  const { baseLr, warmupEpochs, warmupStartLr } = parseOptions(warmupSchedulerSchema, options, 'warmupScheduler');
  return tickedSchedule({ type: 'WarmupScheduler', ...options }, baseLr, (ticks) =>
    anneal.linear(warmupStartLr, baseLr, ticks, warmupEpochs),
  );
}
