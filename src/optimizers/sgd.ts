import type { OperatorFunction } from 'rxjs';
import * as v from 'valibot';
import type { TrainingEvent } from '../events.ts';
import { kernel, mul, sub } from '../kernels/kernel.ts';
import { fraction, parseOptions } from '../options.ts';
import type { Parameters } from '../params/parameters.ts';
import { momentumRule } from './momentum.ts';
import { momentumNesterovRule } from './momentum-nesterov.ts';
import type { Rule } from './rule.ts';
import { type ScanOptions, scanEntries, scanWith } from './scan.ts';
import type { WeightsUpdate } from './weights-update.ts';

const schema = v.strictObject({ ...scanEntries, momentum: v.optional(fraction, 0), nesterov: v.optional(v.boolean(), false) });

export const sgdKernel = kernel('sgd', {}, ({ w, g, lr }) => ({ w: sub(w, mul(lr, g)) }));

/** θ ← θ − α g */
export const sgdRule: Rule = { name: 'SGD', state: [], passes: [{ kernel: sgdKernel, scalars: () => ({}) }] };

/**
 * Stochastic gradient descent: θ ← θ − α g; with `momentum` above 0 as {@link momentum}, with `nesterov` as
 * {@link momentumNesterov}. Defaults: lr 1e-3, momentum 0, nesterov false. As torch.optim.SGD.
 */
export function sgd(
  params: Parameters,
  options: ScanOptions & { readonly momentum?: number; readonly nesterov?: boolean } = {},
): OperatorFunction<TrainingEvent, WeightsUpdate> {
  const { momentum, nesterov, ...rest } = parseOptions(schema, options, 'sgd');
  return scanWith(params, ruleFor(momentum, nesterov), rest);
}

function ruleFor(momentum: number, nesterov: boolean): Rule {
  if (momentum === 0) return sgdRule;
  return nesterov ? momentumNesterovRule(momentum) : momentumRule(momentum);
}
