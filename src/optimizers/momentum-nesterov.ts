import type { OperatorFunction } from 'rxjs';
import type { TrainingEvent } from '../events.ts';
import { add, kernel, mul, sub } from '../kernels/kernel.ts';
import { parseOptions } from '../options.ts';
import type { Parameters } from '../params/parameters.ts';
import { momentumSchema } from './momentum.ts';
import type { Rule } from './rule.ts';
import { type ScanOptions, scanWith } from './scan.ts';
import type { WeightsUpdate } from './weights-update.ts';

export const momentumNesterovKernel = kernel(
  'momentumNesterov',
  { arrays: ['velocity'], scalars: ['mu'] },
  ({ w, g, lr, velocity, mu }) => {
    const next = add(mul(mu, velocity), g);
    return { velocity: next, w: sub(w, mul(lr, add(g, mul(mu, next)))) };
  },
);

/** v ← μ v + g; θ ← θ − α (g + μ v) */
export const momentumNesterovRule = (mu: number): Rule => ({
  name: 'MomentumNesterov',
  state: [{ name: 'velocity', key: 'momentum_buffer' }],
  passes: [{ kernel: momentumNesterovKernel, scalars: () => ({ mu }) }],
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
