import * as v from 'valibot';
import { add, div, kernel, moving, mul, sqrt, square, sub } from '../kernels/kernel.ts';
import { fraction, positive } from '../options.ts';
import { defineOptimizer } from './define-optimizer.ts';

export const adadeltaKernel = kernel(
  'adadelta',
  { arrays: ['squares', 'deltas'], scalars: ['rho', 'rest', 'eps'] },
  ({ w, g, lr, squares, deltas, rho, rest, eps }) => {
    const next = moving(squares, square(g), rho, rest);
    const delta = mul(div(sqrt(add(deltas, eps)), sqrt(add(next, eps))), g);
    return { squares: next, deltas: moving(deltas, square(delta), rho, rest), w: sub(w, mul(lr, delta)) };
  },
);

/**
 * Scales by the ratio of moving averages: `s ← ρ s + (1 − ρ) g²`; `δ = √(d + ε) / √(s + ε) · g`; `d ← ρ d + (1 − ρ) δ²`;
 * `θ ← θ − α δ`; ρ is `rho`. Defaults: lr 1, rho 0.9, eps 1e-6.
 *
 * Zeiler, "ADADELTA: An Adaptive Learning Rate Method" (2012).
 */
export const adadelta = defineOptimizer({
  name: 'adadelta',
  lr: 1,
  entries: { rho: v.optional(fraction, 0.9), eps: v.optional(positive, 1e-6) },
  rule: ({ rho, eps }) => ({
    name: 'Adadelta',
    state: [
      { name: 'squares', key: 'square_avg' },
      { name: 'deltas', key: 'acc_delta' },
    ],
    passes: [{ kernel: adadeltaKernel, scalars: () => ({ rho, rest: 1 - rho, eps }) }],
  }),
});
