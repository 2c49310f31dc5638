import * as v from 'valibot';
import { add, div, kernel, max, moving, mul, sqrt, sub } from '../kernels/kernel.ts';
import { fraction, positive } from '../options.ts';
import { defineOptimizer } from './define-optimizer.ts';
import type { Rule, StateSpec, StepFacts } from './rule.ts';

/** Decay rates of the moving averages of the gradient and of its square. */
export type Betas = readonly [number, number];

/** The option `betas` with its defaults. */
export const betas = (beta1: number, beta2: number) =>
  v.optional(v.pipe(v.strictTuple([fraction, fraction]), v.readonly()), [beta1, beta2]);

export const adamKernel = kernel(
  'adam',
  { arrays: ['mean', 'square'], scalars: ['beta1', 'rest1', 'beta2', 'rest2', 'correction', 'eps', 'rate', 'shrink'] },
  ({ w, g, mean, square, beta1, rest1, beta2, rest2, correction, eps, rate, shrink }) => {
    const m = moving(mean, g, beta1, rest1);
    const n = moving(square, mul(g, g), beta2, rest2);
    const direction = div(m, add(sqrt(mul(n, correction)), eps));
    return { mean: m, square: n, w: sub(sub(w, mul(shrink, w)), mul(rate, direction)) };
  },
);

export const amsgradKernel = kernel(
  'amsgrad',
  { arrays: ['mean', 'square', 'maximum'], scalars: ['beta1', 'rest1', 'beta2', 'rest2', 'correction', 'eps', 'rate'] },
  ({ w, g, mean, square, maximum, beta1, rest1, beta2, rest2, correction, eps, rate }) => {
    const m = moving(mean, g, beta1, rest1);
    const n = moving(square, mul(g, g), beta2, rest2);
    const largest = max(maximum, mul(n, correction));
    return { mean: m, square: n, maximum: largest, w: sub(w, mul(rate, div(m, add(sqrt(largest), eps)))) };
  },
);

/** What bias correction and the moving averages of Adam's family come to at a step. */
export function adamScalars([beta1, beta2]: Betas, eps: number, { lr, count }: Pick<StepFacts, 'lr' | 'count'>) {
  return {
    beta1,
    rest1: 1 - beta1,
    beta2,
    rest2: 1 - beta2,
    correction: 1 / (1 - beta2 ** count),
    eps,
    rate: lr / (1 - beta1 ** count),
  };
}

/** The moments of Adam's family. */
export const moments: readonly StateSpec[] = [
  { name: 'mean', key: 'exp_avg' },
  { name: 'square', key: 'exp_avg_sq' },
];

/** m ← β₁ m + (1 − β₁) g; n ← β₂ n + (1 − β₂) g²; θ ← θ − α m̂ / (√n̂ + ε), each parameter with its own count of steps */
export const adamRule = (betas: Betas, eps: number, amsgrad: boolean): Rule =>
  amsgrad
    ? {
        name: 'Adam',
        // Not torch's max_exp_avg_sq, which is the largest n before its correction.
        state: [...moments, { name: 'maximum', key: 'max_corrected_exp_avg_sq' }],
        passes: [{ kernel: amsgradKernel, scalars: (step) => adamScalars(betas, eps, step) }],
      }
    : adamWith('Adam', betas, eps);

/** Adam with decoupled decay, if any: θ ← θ − α λ θ − α m̂ / (√n̂ + ε) */
export const adamWith = (name: string, betas: Betas, eps: number): Rule => ({
  name,
  state: moments,
  passes: [{ kernel: adamKernel, scalars: (step) => ({ ...adamScalars(betas, eps, step), shrink: step.lr * step.weightDecay }) }],
});

/**
 * Scans gradients into weights with adaptive moments: `m ← β₁ m + (1 − β₁) g`; `n ← β₂ n + (1 − β₂) g²`;
 * `θ ← θ − α m̂ / (√n̂ + ε)`, with `m̂ = m / (1 − β₁ᵗ)` and `n̂ = n / (1 − β₂ᵗ)`. With `amsgrad` the largest n̂ so far takes its
 * place, as in optax (torch corrects the largest n). Defaults: lr 1e-3, betas [0.9, 0.999], eps 1e-8, amsgrad false.
 *
 * Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015); Reddi, Kale and Kumar, "On the Convergence of Adam and
 * Beyond" (2018).
 */
export const adam = defineOptimizer({
  name: 'adam',
  entries: { betas: betas(0.9, 0.999), eps: v.optional(positive, 1e-8), amsgrad: v.optional(v.boolean(), false) },
  rule: ({ betas, eps, amsgrad }) => adamRule(betas, eps, amsgrad),
});
