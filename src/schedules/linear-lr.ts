import * as v from 'valibot';
import { nonNegative, parseOptions } from '../options.ts';
import { anneal } from './anneal.ts';
import { baseLr, duration, type OptionsOf } from './options.ts';
import { type Schedule, tickedSchedule } from './schedule.ts';

export const linearLRSchema = v.strictObject({
  baseLr,
  startFactor: v.optional(nonNegative, 1 / 3),
  endFactor: v.optional(nonNegative, 1),
  totalIters: v.optional(duration, 5),
});

/**
 * Takes the rate from one share of `baseLr` to another on a straight line, and leaves it there:
 * baseLr · (startFactor + (endFactor − startFactor) · min(ticks / totalIters, 1)).
 * Defaults: baseLr 1e-3, startFactor 1/3, endFactor 1, totalIters 5.
 *
 * torch.optim.lr_scheduler.LinearLR.
 */
export function linearLR(options: OptionsOf<typeof linearLRSchema> = {}): Schedule {
  const { baseLr, startFactor, endFactor, totalIters } = parseOptions(linearLRSchema, options, 'linearLR');
  return tickedSchedule(
    { type: 'LinearLR', ...options },
    baseLr,
    (ticks) => baseLr * anneal.linear(startFactor, endFactor, ticks, totalIters),
  );
}
