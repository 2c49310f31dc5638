import * as v from 'valibot';
import { add, kernel, mul, sub } from '../kernels/kernel.ts';
import { fraction } from '../options.ts';
import { defineOptimizer } from './define-optimizer.ts';
import type { Rule } from './rule.ts';

export const momentumKernel = kernel('momentum', { arrays: ['velocity'], scalars: ['mu'] }, ({ w, g, lr, velocity, mu }) => {
  const next = add(mul(mu, velocity), g);
  return { velocity: next, w: sub(w, mul(lr, next)) };
});

/** v ← μ v + g; θ ← θ − α v */
export const momentumRule = (mu: number): Rule => ({
  name: 'Momentum',
  state: [{ name: 'velocity', key: 'momentum_buffer' }],
  passes: [{ kernel: momentumKernel, scalars: () => ({ mu }) }],
});

/**
 * Scans gradients into weights with momentum: `v ← μ v + g`; `θ ← θ − α v`. The velocity v is the scan's state and starts at 0.
 * Defaults: lr 1e-3, momentum 0.9.
 *
 * Polyak, "Some methods of speeding up the convergence of iteration methods" (1964), in torch's form, where the rate scales
 * the velocity when it is applied.
 */
export const momentum = defineOptimizer({
  name: 'momentum',
  entries: { momentum: v.optional(fraction, 0.9) },
  rule: ({ momentum }) => momentumRule(momentum),
});
