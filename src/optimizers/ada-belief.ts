import * as v from 'valibot';
import { add, div, kernel, moving, mul, sqrt, square as squared, sub } from '../kernels/kernel.ts';
import { positive } from '../options.ts';
import { adamScalars, betas } from './adam.ts';
import { defineOptimizer } from './define-optimizer.ts';

// optax adds it to the variance in each step, whatever eps is.
const EPS_ROOT = 1e-16;

export const adaBeliefKernel = kernel(
  'adaBelief',
  { arrays: ['mean', 'variance'], scalars: ['beta1', 'rest1', 'beta2', 'rest2', 'correction', 'eps', 'rate'] },
  ({ w, g, mean, variance, beta1, rest1, beta2, rest2, correction, eps, rate }) => {
    const m = moving(mean, g, beta1, rest1);
    const s = add(moving(variance, squared(sub(g, m)), beta2, rest2), EPS_ROOT);
    return { mean: m, variance: s, w: sub(w, mul(rate, div(m, add(sqrt(mul(s, correction)), eps)))) };
  },
);

/**
 * Adam that divides by how far gradients stray from their mean: `m ← β₁ m + (1 − β₁) g`;
 * `s ← β₂ s + (1 − β₂) (g − m)² + 1e-16`; `θ ← θ − α m̂ / (√ŝ + ε)`, with `ŝ = s / (1 − β₂ᵗ)`.
 * Defaults: lr 1e-3, betas [0.9, 0.999], eps 1e-16.
 *
 * Zhuang et al., "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients" (2020).
 */
export const adaBelief = defineOptimizer({
  name: 'adaBelief',
  entries: { betas: betas(0.9, 0.999), eps: v.optional(positive, 1e-16) },
  rule: ({ betas, eps }) => ({
    name: 'AdaBelief',
    state: [
      { name: 'mean', key: 'exp_avg' },
      { name: 'variance', key: 'exp_avg_var' },
    ],
    passes: [{ kernel: adaBeliefKernel, scalars: (step) => adamScalars(betas, eps, step) }],
  }),
});
