import * as v from 'valibot';
import { add, div, kernel, moving, mul, sign, sqrt, square as squared, sub } from '../kernels/kernel.ts';
import { positive } from '../options.ts';
import { adamScalars, betas, moments } from './adam.ts';
import { defineOptimizer } from './define-optimizer.ts';

export const yogiKernel = kernel(
  'yogi',
  { arrays: ['mean', 'square'], scalars: ['beta1', 'rest1', 'rest2', 'correction', 'eps', 'rate'] },
  ({ w, g, mean, square, beta1, rest1, rest2, correction, eps, rate }) => {
    const m = moving(mean, g, beta1, rest1);
    const g2 = squared(g);
    const n = sub(square, mul(mul(rest2, sign(sub(square, g2))), g2));
    return { mean: m, square: n, w: sub(w, mul(rate, div(m, add(sqrt(mul(n, correction)), eps)))) };
  },
);

// As optax starts both moments.
const INITIAL = 1e-6;

/**
 * Adam with an additive second moment: `m ← β₁ m + (1 − β₁) g`; `n ← n − (1 − β₂) sign(n − g²) g²`;
 * `θ ← θ − α m̂ / (√n̂ + ε)`. Both moments start at 1e-6. Defaults: lr 1e-3, betas [0.9, 0.999], eps 1e-3.
 *
 * Zaheer et al., "Adaptive Methods for Nonconvex Optimization" (2018); optax.yogi.
 */
export const yogi = defineOptimizer({
  name: 'yogi',
  entries: { betas: betas(0.9, 0.999), eps: v.optional(positive, 1e-3) },
  rule: ({ betas, eps }) => ({
    name: 'Yogi',
    state: moments.map((moment) => ({ ...moment, initial: INITIAL })),
    passes: [{ kernel: yogiKernel, scalars: (step) => adamScalars(betas, eps, step) }],
  }),
});
