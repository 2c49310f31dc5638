import * as v from 'valibot';
import { add, kernel, mul, sub } from '../kernels/kernel.ts';
import { positive } from '../options.ts';
import { betas } from './adam.ts';
import { defineOptimizer } from './define-optimizer.ts';
import { norms } from './prepared.ts';

export const novogradKernel = kernel(
  'novograd',
  { arrays: ['mean'], scalars: ['beta1', 'scaled', 'shrink'], prologue: false },
  ({ w, g, lr, mean, beta1, scaled, shrink }) => {
    const m = add(mul(beta1, mean), add(mul(scaled, g), mul(shrink, w)));
    return { mean: m, w: sub(w, mul(lr, m)) };
  },
);

/**
 * Divides by a moving norm of each parameter's whole gradient: `n ← β₂ n + (1 − β₂) ‖g‖²`, at first `‖g‖²`;
 * `m ← β₁ m + g / (√n + ε) + λ θ`; `θ ← θ − α m`. Defaults: lr 1e-3, betas [0.9, 0.999], eps 1e-8, weightDecay 0.
 *
 * Ginsburg et al., "Stochastic Gradient Methods with Layer-wise Adaptive Moments for Training of Deep Networks" (2019).
 */
export const novograd = defineOptimizer({
  name: 'novograd',
  ownDecay: 0,
  entries: { betas: betas(0.9, 0.999), eps: v.optional(positive, 1e-8) },
  rule: ({ betas: [beta1, beta2], eps }) => ({
    name: 'Novograd',
    state: [
      { name: 'mean', key: 'exp_avg' },
      { name: 'square', key: 'exp_avg_sq', dims: () => [] },
    ],
    passes: [
      norms,
      {
        kernel: novogradKernel,
        scalars({ count, sums, state, weightDecay }) {
          const squares = sums[1]!;
          const square = state.square!;
          square[0] = count === 1 ? squares : beta2 * square[0]! + (1 - beta2) * squares;
          return { beta1, scaled: 1 / (Math.sqrt(square[0]!) + eps), shrink: weightDecay };
        },
      },
    ],
  }),
});
