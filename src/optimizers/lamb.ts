import * as v from 'valibot';
import { add, div, kernel, moving, mul, sqrt, square as squared, sub } from '../kernels/kernel.ts';
import { positive } from '../options.ts';
import { adamScalars, type Betas, betas, moments } from './adam.ts';
import { defineOptimizer } from './define-optimizer.ts';
import type { Rule } from './rule.ts';

/** Leaves the direction in the place of the gradient. */
export const lambDirectionKernel = kernel(
  'lambDirection',
  {
    arrays: ['mean', 'square'],
    scalars: ['beta1', 'rest1', 'beta2', 'rest2', 'meanCorrection', 'correction', 'eps', 'shrink'],
  },
  ({ w, g, mean, square, beta1, rest1, beta2, rest2, meanCorrection, correction, eps, shrink }) => {
    const m = moving(mean, g, beta1, rest1);
    const n = moving(square, squared(g), beta2, rest2);
    const u = add(div(mul(m, meanCorrection), add(sqrt(mul(n, correction)), eps)), mul(shrink, w));
    return { mean: m, square: n, g: u, sums: [squared(w), squared(u)] };
  },
);

/** θ ← θ − rate · u, with the direction u in the place of the gradient. */
export const directedKernel = kernel('directed', { scalars: ['rate'], prologue: false }, ({ w, g, rate }) => ({
  w: sub(w, mul(rate, g)),
}));

/** ‖θ‖ / ‖u‖, or 1 where either is 0. */
function trustRatio([weights, direction]: readonly number[]): number {
  return weights === 0 || direction === 0 ? 1 : Math.sqrt(weights! / direction!);
}

const lambRule = (betas: Betas, eps: number): Rule => ({
  name: 'Lamb',
  state: moments,
  passes: [
    {
      kernel: lambDirectionKernel,
      scalars: (step) => ({
        ...adamScalars(betas, eps, step),
        meanCorrection: 1 / (1 - betas[0] ** step.count),
        shrink: step.weightDecay,
      }),
    },
    { kernel: directedKernel, scalars: ({ lr, sums }) => ({ rate: lr * trustRatio(sums) }) },
  ],
});

/**
 * Scales Adam's direction to each parameter's norm: `u = m̂ / (√n̂ + ε) + λ θ`; `θ ← θ − α ‖θ‖ / ‖u‖ · u`, with the factor 1
 * where a norm is 0. Defaults: lr 1e-3, betas [0.9, 0.999], eps 1e-6, weightDecay 0.
 *
 * You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes" (2020).
 */
export const lamb = defineOptimizer({
  name: 'lamb',
  ownDecay: 0,
  entries: { betas: betas(0.9, 0.999), eps: v.optional(positive, 1e-6) },
  rule: ({ betas, eps }) => lambRule(betas, eps),
});
