import type { OperatorFunction } from 'rxjs';
import * as v from 'valibot';
import type { TrainingEvent } from '../events.ts';
import { fraction, parseOptions } from '../options.ts';
import type { Parameters } from '../params/parameters.ts';
import type { Rule } from './rule.ts';
import { type ScanOptions, scanEntries, scanWith } from './scan.ts';
import type { WeightsUpdate } from './weights-update.ts';

export const momentumSchema = v.strictObject({ ...scanEntries, momentum: v.optional(fraction, 0.9) });

/** v ← μ v + g; θ ← θ − α v */
export const momentumRule = (mu: number): Rule => ({
  name: 'Momentum',
  state: ['velocity'],
  apply: (kernels, { w, out, g, length, state }, { scale, limit, decay }, lr) =>
    kernels.momentum(w, out, g, state[0]!, length, scale, limit, decay, mu, lr),
});

/**
 * Scans gradients into weights with momentum: v ← μ v + g; θ ← θ − α v. The velocity v is the scan's state and starts at 0.
 * Defaults: lr 1e-3, momentum 0.9.
 *
 * Polyak, "Some methods of speeding up the convergence of iteration methods" (1964), in torch's form, where the rate scales
 * the velocity when it is applied.
 */
export function momentum(
  params: Parameters,
  options: ScanOptions & { readonly momentum?: number } = {},
): OperatorFunction<TrainingEvent, WeightsUpdate> {
  const { momentum: mu, ...rest } = parseOptions(momentumSchema, options, 'momentum');
  return scanWith(params, momentumRule(mu), rest);
}
