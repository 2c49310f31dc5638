import * as v from 'valibot';
import { expectOption, nonNegative, parseOptions } from '../options.ts';
import { baseLr, duration, type OptionsOf, properFraction } from './options.ts';
import { checkedState, type RateConfig, type Schedule } from './schedule.ts';

export const reduceLROnPlateauSchema = v.strictObject({
  baseLr,
  mode: v.optional(v.picklist(['min', 'max']), 'min'),
  factor: v.optional(properFraction, 0.1),
  patience: v.optional(duration, 10),
  threshold: v.optional(nonNegative, 1e-4),
  thresholdMode: v.optional(v.picklist(['rel', 'abs']), 'rel'),
  cooldown: v.optional(duration, 0),
  minLr: v.optional(nonNegative, 0),
  eps: v.optional(nonNegative, 1e-8),
  metric: v.optional(
    v.pipe(
      v.string(),
      v.check((name) => name !== '', 'a name'),
    ),
  ),
});

type Options = v.InferOutput<typeof reduceLROnPlateauSchema>;

interface Progress {
  readonly ticks: number;
  readonly lr: number;
  readonly best: number;
  /** Metrics in a row that were no better than the best. */
  readonly bad: number;
  /** Metrics still to be passed over. */
  readonly cooldown: number;
}

/**
 * Lowers the rate when a metric stops getting better: to max(lr · factor, minLr), where more than `patience` metrics in a
 * row were not better than the best so far by `threshold` (a share of it, or with thresholdMode abs an amount). It then
 * passes over `cooldown` metrics, and spares itself changes of at most `eps`. A tick without a metric changes nothing.
 * `metric` names the MetricReport to look at; without it, a stream that reports several is an error.
 * Defaults: baseLr 1e-3, mode min, factor 0.1, patience 10, threshold 1e-4, thresholdMode rel, cooldown 0, minLr 0, eps 1e-8.
 *
 * torch.optim.lr_scheduler.ReduceLROnPlateau, except that what comes during a cooldown cannot be the best.
 */
export function reduceLROnPlateau(options: OptionsOf<typeof reduceLROnPlateauSchema> = {}): Schedule {
  const parsed = parseOptions(reduceLROnPlateauSchema, options, 'reduceLROnPlateau');
  const { baseLr, minLr, metric } = parsed;
  expectOption(minLr <= baseLr, 'reduceLROnPlateau: minLr', `at most baseLr (${baseLr})`, minLr);
  // Not Infinity, which JSON cannot hold.
  const worst = parsed.mode === 'min' ? Number.MAX_VALUE : -Number.MAX_VALUE;
  let now: Progress = { ticks: 0, lr: baseLr, best: worst, bad: 0, cooldown: 0 };
  return {
    config: { type: 'ReduceLROnPlateau', ...options } as RateConfig,
    baseLr,
    metric: metric ?? null,
    get lr() {
      return now.lr;
    },
    tick(value) {
      const ticks = now.ticks + 1;
      now = { ...(value === undefined ? now : after(now, value, parsed)), ticks };
    },
    state: () => ({ ...now }),
    restore(state) {
      now = checkedState(state, { ...now });
    },
    fresh: () => reduceLROnPlateau(parsed),
  };
}

function after(now: Progress, metric: number, options: Options): Progress {
  if (now.cooldown > 0) return { ...now, cooldown: now.cooldown - 1 };
  if (isBetter(metric, now.best, options)) return { ...now, best: metric, bad: 0 };
  if (now.bad < options.patience) return { ...now, bad: now.bad + 1 };
  const lower = Math.max(now.lr * options.factor, options.minLr);
  return { ...now, lr: now.lr - lower > options.eps ? lower : now.lr, bad: 0, cooldown: options.cooldown };
}

function isBetter(metric: number, best: number, { mode, threshold, thresholdMode }: Options): boolean {
  if (!Number.isFinite(metric)) return false;
  const sign = mode === 'min' ? -1 : 1;
  const bar = thresholdMode === 'rel' ? best * (1 + sign * threshold) : best + sign * threshold;
  return mode === 'min' ? metric < bar : metric > bar;
}
