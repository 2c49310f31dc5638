import * as v from 'valibot';
import { count, nonNegative, parseOptions } from '../options.ts';
import { anneal } from './anneal.ts';
import { baseLr, type OptionsOf } from './options.ts';
import { type Schedule, tickedSchedule } from './schedule.ts';

export const cosineAnnealingWarmRestartsSchema = v.strictObject({
  baseLr,
  t0: v.optional(count, 10),
  tMult: v.optional(count, 1),
  etaMin: v.optional(nonNegative, 0),
});

/**
 * Takes the rate from `baseLr` towards `etaMin` along half a cosine, again and again: the first time in `t0` ticks, then
 * each time in `tMult` times as many: etaMin + (baseLr − etaMin) · (1 + cos(π · t / T)) / 2, at tick t of a period of T.
 * Defaults: baseLr 1e-3, t0 10, tMult 1, etaMin 0.
 *
 * Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017);
 * torch.optim.lr_scheduler.CosineAnnealingWarmRestarts.
 */
export function cosineAnnealingWarmRestarts(options: OptionsOf<typeof cosineAnnealingWarmRestartsSchema> = {}): Schedule {
  const { baseLr, t0, tMult, etaMin } = parseOptions(cosineAnnealingWarmRestartsSchema, options, 'cosineAnnealingWarmRestarts');
  return tickedSchedule({ type: 'CosineAnnealingWarmRestarts', ...options }, baseLr, (ticks) => {
    const { tick, length } = periodAt(ticks, t0, tMult);
    return anneal.cos(baseLr, etaMin, tick, length);
  });
}

function periodAt(ticks: number, first: number, factor: number): { tick: number; length: number } {
  if (factor === 1) return { tick: ticks % first, length: first };
  // Whole numbers all the way: a logarithm would round at the restarts. At most 53 rounds.
  let tick = ticks;
  let length = first;
  while (tick >= length) {
    tick -= length;
    length *= factor;
  }
  return { tick, length };
}
