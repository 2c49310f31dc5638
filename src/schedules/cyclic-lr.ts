import * as v from 'valibot';
import { count, expectOption, nonNegative, parseOptions, positive } from '../options.ts';
import { baseLr, type OptionsOf } from './options.ts';
import { type Schedule, tickedSchedule } from './schedule.ts';

export const cyclicLRSchema = v.strictObject({
  baseLr,
  maxLr: v.optional(positive, 1e-2),
  stepSizeUp: v.optional(count, 2000),
  stepSizeDown: v.nullish(count),
  mode: v.optional(v.picklist(['triangular', 'triangular2', 'exp_range']), 'triangular'),
  gamma: v.optional(positive, 1),
  scaleFn: v.nullish(v.custom<(x: number) => number>((value) => typeof value === 'function', 'a function')),
  scaleMode: v.optional(v.picklist(['cycle', 'iterations']), 'cycle'),
});

/**
 * Takes the rate from `baseLr` up to `maxLr` in `stepSizeUp` ticks and down again in `stepSizeDown` (as many, where it is not
 * given), over and over: baseLr + (maxLr − baseLr) · height · scale, with a height from 0 to 1. The scale is 1 (triangular),
 * 1 / 2^(cycle − 1) (triangular2), gamma^ticks (exp_range), or in their place `scaleFn` of the cycle, from 1 on, or of the
 * ticks (scaleMode iterations).
 * Defaults: baseLr 1e-3, maxLr 0.01, stepSizeUp 2000, mode triangular, gamma 1, scaleMode cycle.
 *
 * Smith, "Cyclical Learning Rates for Training Neural Networks" (2017); torch.optim.lr_scheduler.CyclicLR.
 */
export function cyclicLR(options: OptionsOf<typeof cyclicLRSchema> = {}): Schedule {
  const parsed = parseOptions(cyclicLRSchema, options, 'cyclicLR');
  const { baseLr, maxLr, stepSizeUp } = parsed;
  expectOption(maxLr >= baseLr, 'cyclicLR: maxLr', `at least baseLr (${baseLr})`, maxLr);
  const stepSizeDown = parsed.stepSizeDown ?? stepSizeUp;
  const length = stepSizeUp + stepSizeDown;
  const scaleAt = scaleOf(parsed);
  return tickedSchedule({ type: 'CyclicLR', ...options }, baseLr, (ticks) => {
    const tick = ticks % length;
    const height = tick < stepSizeUp ? tick / stepSizeUp : (length - tick) / stepSizeDown;
    return baseLr + (maxLr - baseLr) * height * scaleAt(Math.floor(ticks / length) + 1, ticks);
  });
}

function scaleOf(options: v.InferOutput<typeof cyclicLRSchema>): (cycle: number, ticks: number) => number {
  const { mode, gamma, scaleFn, scaleMode } = options;
  if (scaleFn) {
    return (cycle, ticks) => {
      const x = scaleMode === 'cycle' ? cycle : ticks;
      return parseOptions(nonNegative, scaleFn(x), `cyclicLR: scaleFn(${x})`);
    };
  }
  return {
    triangular: () => 1,
    triangular2: (cycle: number) => 0.5 ** (cycle - 1),
    exp_range: (_: number, ticks: number) => gamma ** ticks,
  }[mode];
}
