import * as v from 'valibot';
import { count, nonNegative, parseOptions, positive } from '../options.ts';
import { baseLr, duration, type OptionsOf } from './options.ts';
import { type Schedule, tickedSchedule } from './schedule.ts';

export const exponentialDecayLRSchema = v.strictObject({
  baseLr,
  decaySteps: v.optional(count, 1000),
  decayRate: v.optional(positive, 0.96),
  transitionBegin: v.optional(duration, 0),
  staircase: v.optional(v.boolean(), false),
  endValue: v.nullish(nonNegative),
});

/**
 * Multiplies the rate by `decayRate` over every `decaySteps` ticks, from tick `transitionBegin` on:
 * baseLr · decayRate^n, n = max(ticks − transitionBegin, 0) / decaySteps, rounded down with `staircase`. The rate goes no
 * further than `endValue`: not below it where decayRate < 1, else not above it.
 * Defaults: baseLr 1e-3, decaySteps 1000, decayRate 0.96, transitionBegin 0, staircase false.
 *
 * optax.exponential_decay.
 */
export function exponentialDecayLR(options: OptionsOf<typeof exponentialDecayLRSchema> = {}): Schedule {
  const parsed = parseOptions(exponentialDecayLRSchema, options, 'exponentialDecayLR');
  const { baseLr, decaySteps, decayRate, transitionBegin, staircase, endValue } = parsed;
  const limit = decayRate < 1 ? Math.max : Math.min;
  return tickedSchedule({ type: 'ExponentialDecayLR', ...options }, baseLr, (ticks) => {
    const periods = Math.max(ticks - transitionBegin, 0) / decaySteps;
    const lr = baseLr * decayRate ** (staircase ? Math.floor(periods) : periods);
    return endValue == null ? lr : limit(lr, endValue);
  });
}
