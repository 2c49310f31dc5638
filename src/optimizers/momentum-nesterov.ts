import * as v from 'valibot';
import { add, kernel, mul, sub } from '../kernels/kernel.ts';
import { fraction } from '../options.ts';
import { defineOptimizer } from './define-optimizer.ts';
import type { Rule } from './rule.ts';

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
 * Scans gradients into weights with Nesterov's look-ahead: `v ← μ v + g`; `θ ← θ − α (g + μ v)`.
 * Defaults: lr 1e-3, momentum 0.9.
 *
 * Nesterov, "A method for solving the convex programming problem with convergence rate O(1/k²)" (1983), in the form of
 * torch.optim.SGD(nesterov=True) and optax.trace(nesterov=True).
 */
export const momentumNesterov = defineOptimizer({
  name: 'momentumNesterov',
  entries: { momentum: v.optional(fraction, 0.9) },
  rule: ({ momentum }) => momentumNesterovRule(momentum),
});
