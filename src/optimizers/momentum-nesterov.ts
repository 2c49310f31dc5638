import type { OperatorFunction } from 'rxjs';
import type { TrainingEvent } from '../events.ts';
import { parseOptions } from '../options.ts';
import type { Parameters } from '../params/parameters.ts';
import { momentumSchema } from './momentum.ts';
import type { Rule } from './rule.ts';
import { type ScanOptions, scanWith } from './scan.ts';
import type { WeightsUpdate } from './weights-update.ts';

/** v ← μ v + g; θ ← θ − α (g + μ v) */
export const momentumNesterovRule = (mu: number): Rule => ({
  name: 'MomentumNesterov',
  state: ['velocity'],
  apply: (kernels, { w, out, g, length, state }, { scale, limit, decay }, lr) =>
    kernels.momentumNesterov(w, out, g, state[0]!, length, scale, limit, decay, mu, lr),
});

/**
 * Scans gradients into weights with Nesterov's look-ahead: v ← μ v + g; θ ← θ − α (g + μ v).
 * Defaults: lr 1e-3, momentum 0.9.
 *
 * Nesterov (1983); in the form of torch.optim.SGD(nesterov=True) and optax.trace(nesterov=True).
 */
export function momentumNesterov(
  params: Parameters,
  options: ScanOptions & { readonly momentum?: number } = {},
): OperatorFunction<TrainingEvent, WeightsUpdate> {
  const { momentum: mu, ...rest } = parseOptions(momentumSchema, options, 'momentumNesterov');
  return scanWith(params, momentumNesterovRule(mu), rest);
}
