import * as v from 'valibot';
import { add, div, greater, kernel, mul, select, sqrt, square, sub } from '../kernels/kernel.ts';
import { nonNegative, positive } from '../options.ts';
import { defineOptimizer } from './define-optimizer.ts';

export const adagradKernel = kernel('adagrad', { arrays: ['sum'], scalars: ['eps', 'rate'] }, ({ w, g, sum, eps, rate }) => {
  const squares = add(sum, square(g));
  const factor = select(greater(squares, 0), div(1, sqrt(add(squares, eps))), 0);
  return { sum: squares, w: sub(w, mul(rate, mul(factor, g))) };
});

/**
 * Divides by the root of all squares so far: `s ← s + g²`; `θ ← θ − αₜ g / √(s + ε)`, with `αₜ = α / (1 + (t − 1) · lrDecay)`.
 * s starts at `initialAccumulatorValue`. Defaults: lr 0.01, lrDecay 0, initialAccumulatorValue 0, eps 1e-10.
 *
 * Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization" (2011).
 */
export const adagrad = defineOptimizer({
  name: 'adagrad',
  lr: 0.01,
  entries: {
    lrDecay: v.optional(nonNegative, 0),
    initialAccumulatorValue: v.optional(nonNegative, 0),
    eps: v.optional(positive, 1e-10),
  },
  rule: ({ lrDecay, initialAccumulatorValue, eps }) => ({
    name: 'Adagrad',
    state: [{ name: 'sum', initial: initialAccumulatorValue }],
    passes: [{ kernel: adagradKernel, scalars: ({ lr, count }) => ({ eps, rate: lr / (1 + (count - 1) * lrDecay) }) }],
  }),
});
