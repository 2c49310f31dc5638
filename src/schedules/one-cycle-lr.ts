import * as v from 'valibot';
import { count, expectOption, parseOptions, positive } from '../options.ts';
import { anneal } from './anneal.ts';
import { type OptionsOf, properFraction } from './options.ts';
import { type Schedule, tickedSchedule } from './schedule.ts';

export const oneCycleLRSchema = v.strictObject({
  maxLr: v.optional(positive, 1e-2),
  totalSteps: v.nullish(count),
  epochs: v.nullish(count),
  stepsPerEpoch: v.nullish(count),
  pctStart: v.optional(properFraction, 0.3),
  annealStrategy: v.optional(v.picklist(['cos', 'linear']), 'cos'),
  divFactor: v.optional(positive, 25),
  finalDivFactor: v.optional(positive, 1e4),
});

/**
 * Takes the rate up once and down once: from maxLr / divFactor to maxLr at tick pctStart · totalSteps − 1, then to
 * maxLr / (divFactor · finalDivFactor) at tick totalSteps − 1, where it stays; both ways along half a cosine, or on a
 * straight line (annealStrategy linear). The length is `totalSteps`, or `epochs` times `stepsPerEpoch`.
 * Defaults: maxLr 0.01, pctStart 0.3, annealStrategy cos, divFactor 25, finalDivFactor 10000.
 *
 * Smith and Topin, "Super-Convergence" (2018); torch.optim.lr_scheduler.OneCycleLR in two phases.
 */
export function oneCycleLR(options: OptionsOf<typeof oneCycleLRSchema>): Schedule {
  const parsed = parseOptions(oneCycleLRSchema, options, 'oneCycleLR');
  const { maxLr, pctStart, annealStrategy, divFactor, finalDivFactor } = parsed;
  const totalSteps = lengthOf(parsed);
  const baseLr = maxLr / divFactor;
  const along = anneal[annealStrategy];
  const top = pctStart * totalSteps - 1;
  return tickedSchedule({ type: 'OneCycleLR', ...options }, baseLr, (ticks) =>
    ticks <= top ? along(baseLr, maxLr, ticks, top) : along(maxLr, baseLr / finalDivFactor, ticks - top, totalSteps - 1 - top),
  );
}

function lengthOf({ totalSteps, epochs, stepsPerEpoch }: v.InferOutput<typeof oneCycleLRSchema>): number {
  const given = Object.entries({ totalSteps, epochs, stepsPerEpoch }).filter(([, value]) => value != null);
  const names = given.map(([name]) => name).join(' and ') || 'neither';
  const met = names === 'totalSteps' || names === 'epochs and stepsPerEpoch';
  expectOption(met, 'oneCycleLR', 'totalSteps, or epochs and stepsPerEpoch', names);
  return totalSteps ?? epochs! * stepsPerEpoch!;
}
