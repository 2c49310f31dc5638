import * as v from 'valibot';
import { count, nonNegative, parseOptions } from '../options.ts';
import { anneal } from './anneal.ts';
import { baseLr, type OptionsOf } from './options.ts';
import { type Schedule, tickedSchedule } from './schedule.ts';

export const cosineAnnealingLRSchema = v.strictObject({
  baseLr,
  tMax: v.optional(count, 50),
  etaMin: v.optional(nonNegative, 0),
});

/**
 * Takes the rate from `baseLr` to `etaMin` along half a cosine: etaMin + (baseLr − etaMin) · (1 + cos(π · ticks / tMax)) / 2.
 * From tick `tMax` on it stays at `etaMin`, where torch's would rise again.
 * Defaults: baseLr 1e-3, tMax 50, etaMin 0.
 *
 * Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017), without the restarts.
 */
export function cosineAnnealingLR(options: OptionsOf<typeof cosineAnnealingLRSchema> = {}): Schedule {
  const { baseLr, tMax, etaMin } = parseOptions(cosineAnnealingLRSchema, options, 'cosineAnnealingLR');
  return tickedSchedule({ type: 'CosineAnnealingLR', ...options }, baseLr, (ticks) => anneal.cos(baseLr, etaMin, ticks, tMax));
}
