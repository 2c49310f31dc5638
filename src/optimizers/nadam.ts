import * as v from 'valibot';
import { add, div, kernel, moving, mul, sqrt, square as squared, sub } from '../kernels/kernel.ts';
import { nonNegative, positive } from '../options.ts';
import { adamScalars, type Betas, betas, moments } from './adam.ts';
import { defineOptimizer } from './define-optimizer.ts';
import type { Rule } from './rule.ts';

export const nadamKernel = kernel(
  'nadam',
  {
    arrays: ['mean', 'square'],
    scalars: ['beta1', 'rest1', 'beta2', 'rest2', 'correction', 'eps', 'gradientRate', 'meanRate'],
  },
  ({ w, g, mean, square, beta1, rest1, beta2, rest2, correction, eps, gradientRate, meanRate }) => {
    const m = moving(mean, g, beta1, rest1);
    const n = moving(square, squared(g), beta2, rest2);
    const root = add(sqrt(mul(n, correction)), eps);
    return { mean: m, square: n, w: sub(w, div(add(mul(gradientRate, g), mul(meanRate, m)), root)) };
  },
);

function nadamRule(betas: Betas, eps: number, momentumDecay: number): Rule {
  const muAt = (step: number): number => betas[0] * (1 - 0.5 * 0.96 ** (step * momentumDecay));
  return {
    name: 'Nadam',
    state: [...moments, { name: 'muProduct', key: 'mu_product', dims: () => [], initial: 1 }],
    passes: [
      {
        kernel: nadamKernel,
        scalars(step) {
          const { lr, count, state } = step;
          const product = state.muProduct![0]! * muAt(count);
          state.muProduct![0] = product;
          const next = muAt(count + 1);
          const gradientRate = (lr * (1 - muAt(count))) / (1 - product);
          return { ...adamScalars(betas, eps, step), gradientRate, meanRate: (lr * next) / (1 - product * next) };
        },
      },
    ],
  };
}

/**
 * Adam with Nesterov's look-ahead: with `μₜ = β₁ (1 − ½ · 0.96^(t · momentumDecay))` and Π the product of all so far, this one
 * included, `θ ← θ − α ((1 − μₜ) / (1 − Π) g + μₜ₊₁ / (1 − Π μₜ₊₁) m) / (√n̂ + ε)`.
 * Defaults: lr 2e-3, betas [0.9, 0.999], eps 1e-8, momentumDecay 4e-3.
 *
 * Dozat, "Incorporating Nesterov Momentum into Adam" (2016), as torch.optim.NAdam.
 */
export const nadam = defineOptimizer({
  name: 'nadam',
  lr: 2e-3,
  entries: {
    betas: betas(0.9, 0.999),
    eps: v.optional(positive, 1e-8),
    momentumDecay: v.optional(nonNegative, 0.004),
  },
  rule: ({ betas, eps, momentumDecay }) => nadamRule(betas, eps, momentumDecay),
});
