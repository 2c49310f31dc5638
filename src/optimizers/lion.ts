import { add, kernel, moving, mul, sign, sub } from '../kernels/kernel.ts';
import { betas } from './adam.ts';
import { defineOptimizer } from './define-optimizer.ts';

export const lionKernel = kernel(
  'lion',
  { arrays: ['mean'], scalars: ['beta1', 'rest1', 'beta2', 'rest2', 'weightDecay'] },
  ({ w, g, lr, mean, beta1, rest1, beta2, rest2, weightDecay }) => {
    const direction = sign(moving(mean, g, beta1, rest1));
    return { mean: moving(mean, g, beta2, rest2), w: sub(w, mul(lr, add(direction, mul(weightDecay, w)))) };
  },
);

/**
 * Steps by signs: `θ ← θ − α (sign(β₁ m + (1 − β₁) g) + λ θ)`; `m ← β₂ m + (1 − β₂) g`.
 * Defaults: lr 1e-4, betas [0.9, 0.99], weightDecay 0.
 *
 * Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023).
 */
export const lion = defineOptimizer({
  name: 'lion',
  lr: 1e-4,
  ownDecay: 0,
  entries: { betas: betas(0.9, 0.99) },
  rule: ({ betas: [beta1, beta2] }) => ({
    name: 'Lion',
    state: [{ name: 'mean', key: 'exp_avg' }],
    passes: [
      {
        kernel: lionKernel,
        scalars: ({ weightDecay }) => ({ beta1, rest1: 1 - beta1, beta2, rest2: 1 - beta2, weightDecay }),
      },
    ],
  }),
});
