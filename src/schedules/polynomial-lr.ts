import * as v from 'valibot';
import { count, nonNegative, parseOptions } from '../options.ts';
import { anneal } from './anneal.ts';
import { baseLr, type OptionsOf } from './options.ts';
import { type Schedule, tickedSchedule } from './schedule.ts';

export const polynomialLRSchema = v.strictObject({
  baseLr,
  totalIters: v.optional(count, 5),
  power: v.optional(nonNegative, 1),
});

/**
 * Takes the rate to 0 over `totalIters` ticks, along a power: baseLr · (1 − min(ticks, totalIters) / totalIters)^power.
 * Defaults: baseLr 1e-3, totalIters 5, power 1.
 *
 * torch.optim.lr_scheduler.PolynomialLR.
 */
export function polynomialLR(options: OptionsOf<typeof polynomialLRSchema> = {}): Schedule {
  const { baseLr, totalIters, power } = parseOptions(polynomialLRSchema, options, 'polynomialLR');
  return tickedSchedule(
    { type: 'PolynomialLR', ...options },
    baseLr,
    (ticks) => baseLr * anneal.linear(1, 0, ticks, totalIters) ** power,
  );
}
