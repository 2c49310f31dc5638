import * as v from 'valibot';
import { count, expectOption, nonNegative, parseOptions } from '../options.ts';
import { anneal } from './anneal.ts';
import { baseLr, duration, type OptionsOf } from './options.ts';
import { type Schedule, tickedSchedule } from './schedule.ts';

export const warmupCosineScheduleSchema = v.strictObject({
  baseLr,
  warmupSteps: v.optional(duration, 1000),
  totalSteps: v.optional(count, 10_000),
  warmupStartLr: v.optional(nonNegative, 0),
  etaMin: v.optional(nonNegative, 0),
});

/**
 * Takes the rate from `warmupStartLr` to `baseLr` on a straight line over `warmupSteps` ticks, then to `etaMin` along half a
 * cosine until tick `totalSteps`, and leaves it there.
 * Defaults: baseLr 1e-3, warmupSteps 1000, totalSteps 10000, warmupStartLr 0, etaMin 0.
 *
 * optax.warmup_cosine_decay_schedule.
 */
export function warmupCosineSchedule(options: OptionsOf<typeof warmupCosineScheduleSchema> = {}): Schedule {
  const parsed = parseOptions(warmupCosineScheduleSchema, options, 'warmupCosineSchedule');
  const { baseLr, warmupSteps, totalSteps, warmupStartLr, etaMin } = parsed;
  const expected = `more than warmupSteps (${warmupSteps})`;
  expectOption(totalSteps > warmupSteps, 'warmupCosineSchedule: totalSteps', expected, totalSteps);
  return tickedSchedule({ type: 'WarmupCosineSchedule', ...options }, baseLr, (ticks) =>
    ticks < warmupSteps
      ? anneal.linear(warmupStartLr, baseLr, ticks, warmupSteps)
      : anneal.cos(baseLr, etaMin, ticks - warmupSteps, totalSteps - warmupSteps),
  );
}
