import * as v from 'valibot';
import { abs, add, div, kernel, max, moving, mul, sub } from '../kernels/kernel.ts';
import { positive } from '../options.ts';
import { betas } from './adam.ts';
import { defineOptimizer } from './define-optimizer.ts';

export const adamaxKernel = kernel(
  'adamax',
  { arrays: ['mean', 'largest'], scalars: ['beta1', 'rest1', 'beta2', 'eps', 'rate'] },
  ({ w, g, mean, largest, beta1, rest1, beta2, eps, rate }) => {
    const m = moving(mean, g, beta1, rest1);
    const u = max(add(abs(g), eps), mul(beta2, largest));
    return { mean: m, largest: u, w: sub(w, mul(rate, div(m, u))) };
  },
);

/**
 * Adam with the infinity norm: `m ← β₁ m + (1 − β₁) g`; `u ← max(β₂ u, |g| + ε)`; `θ ← θ − α / (1 − β₁ᵗ) · m / u`.
 * Defaults: lr 2e-3, betas [0.9, 0.999], eps 1e-8.
 *
 * Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), section 7.1.
 */
export const adamax = defineOptimizer({
  name: 'adamax',
  lr: 2e-3,
  entries: { betas: betas(0.9, 0.999), eps: v.optional(positive, 1e-8) },
  rule: ({ betas: [beta1, beta2], eps }) => ({
    name: 'Adamax',
    state: [
      { name: 'mean', key: 'exp_avg' },
      { name: 'largest', key: 'exp_inf' },
    ],
    passes: [
      {
        kernel: adamaxKernel,
        scalars: ({ lr, count }) => ({ beta1, rest1: 1 - beta1, beta2, eps, rate: lr / (1 - beta1 ** count) }),
      },
    ],
  }),
});
