import { type OperatorFunction, pipe } from 'rxjs';
import * as v from 'valibot';
import type { TrainingEvent } from '../events.ts';
import { add, kernel, mul, sub } from '../kernels/kernel.ts';
import { count, parseOptions } from '../options.ts';
import type { Parameters } from '../params/parameters.ts';
import { readConfig } from './config.ts';
import { recipeOf } from './recipe.ts';
import type { Rule } from './rule.ts';
import { type RuleConfig, ruleTypes } from './rule-types.ts';
import { scanWith } from './scan.ts';
import { type ScanOptions, scanEntries } from './scan-options.ts';
import type { WeightsUpdate } from './weights-update.ts';

export const lookaheadKernel = kernel(
  'lookahead',
  { arrays: ['slow'], scalars: ['alpha'], prologue: false },
  ({ out, slow, alpha }) => {
    const next = add(slow, mul(alpha, sub(out, slow)));
    return { slow: next, w: next };
  },
);

/** Its options beside those of every scan. */
export const lookaheadEntries = {
  baseOptimizer: v.looseObject({}),
  syncPeriod: v.optional(count, 5),
  alpha: v.optional(v.pipe(v.number(), v.gtValue(0), v.maxValue(1)), 0.5),
};

const { lr: _, ...entries } = scanEntries;
const schema = v.strictObject({ ...entries, ...lookaheadEntries });

/** What {@link lookahead} takes. The rate is the base optimizer's. */
export interface LookaheadOptions extends Omit<ScanOptions, 'lr'> {
  /** The optimizer of the fast weights, as plain data. */
  readonly baseOptimizer: RuleConfig;
  readonly syncPeriod?: number;
  readonly alpha?: number;
}

/** Another rule, and the slow weights behind it. */
export const lookaheadRule = ({ name, state, passes }: Rule, syncPeriod: number, alpha: number): Rule => ({
  name: `Lookahead(${name})`,
  state: [...state, { name: 'slow', initial: (_, weight) => weight }],
  passes: [...passes, { kernel: lookaheadKernel, scalars: () => ({ alpha }), when: ({ count }) => count % syncPeriod === 0 }],
});

/**
 * Steps by any other optimizer, and every `syncPeriod` steps of a parameter goes back to where a slow copy of it moves part
 * of the way: `s ← s + a (θ − s)`; `θ ← s`; a is `alpha`. The rate is that of the other.
 * Defaults: syncPeriod 5, alpha 0.5.
 *
 * Zhang et al., "Lookahead Optimizer: k steps forward, 1 step back" (2019).
 *
 * @example
 * gradients$.pipe(lookahead(params, { baseOptimizer: { type: 'Adam', lr: 1e-3 }, syncPeriod: 6 }))
 */
export function lookahead(params: Parameters, options: LookaheadOptions): OperatorFunction<TrainingEvent, WeightsUpdate> {
  const { baseOptimizer, syncPeriod, alpha, ...scanOptions } = parseOptions(schema, options, 'lookahead');
  const base = readConfig(ruleTypes, params, baseOptimizer, 'lookahead: baseOptimizer');
  const groups = [...scanOptions.groups, ...base.options.groups];
  const { rule, weightDecay, scan } = base.optimizer.parse(params, { ...scanOptions, ...base.options, groups });
  const recipe = recipeOf('lookahead', {
    baseOptimizer: { type: baseOptimizer.type, ...base.options },
    syncPeriod,
    alpha,
    ...scanOptions,
  });
  return pipe(base.stages, scanWith(params, lookaheadRule(rule, syncPeriod, alpha), scan, weightDecay, recipe));
}
