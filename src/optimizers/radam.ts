import * as v from 'valibot';
import { add, div, kernel, moving, mul, sqrt, square as squared, sub } from '../kernels/kernel.ts';
import { positive } from '../options.ts';
import { adamScalars, type Betas, betas, moments } from './adam.ts';
import { defineOptimizer } from './define-optimizer.ts';
import type { Rule } from './rule.ts';

export const radamKernel = kernel(
  'radam',
  { arrays: ['mean', 'square'], scalars: ['beta1', 'rest1', 'beta2', 'rest2', 'correction', 'eps', 'rate', 'adaptive'] },
  ({ w, g, mean, square, beta1, rest1, beta2, rest2, correction, eps, rate, adaptive }) => {
    const m = moving(mean, g, beta1, rest1);
    const n = moving(square, squared(g), beta2, rest2);
    // adaptive 0 and eps 1 divide by one.
    const divisor = add(mul(adaptive, sqrt(mul(n, correction))), eps);
    return { mean: m, square: n, w: sub(w, mul(rate, div(m, divisor))) };
  },
);

const f32 = Math.fround;

/** By squaring, rounded at each product. */
function float32Power(base: number, exponent: number): number {
  let result = 1;
  for (let square = f32(base); exponent > 0; square = f32(square * square), exponent = Math.floor(exponent / 2)) {
    if (exponent % 2 === 1) result = f32(result * square);
  }
  return result;
}

function radamRule(betas: Betas, eps: number): Rule {
  const [, beta2] = betas;
  const longest = 2 / (1 - beta2) - 1;
  return {
    name: 'RAdam',
    state: moments,
    passes: [
      {
        kernel: radamKernel,
        scalars(step) {
          // In float32, as braintools: where the length begins to count, it is a small difference of large numbers.
          const power = float32Power(beta2, step.count);
          const rest = f32(1 - power);
          const length = f32(longest - f32(f32(2 * step.count * power) / rest));
          const scalars = { ...adamScalars(betas, eps, step), correction: 1 / rest };
          if (length < 5) return { ...scalars, adaptive: 0, eps: 1 };
          const rectification = Math.sqrt(((length - 4) * (length - 2) * longest) / ((longest - 4) * (longest - 2) * length));
          return { ...scalars, adaptive: 1, rate: scalars.rate * rectification };
        },
      },
    ],
  };
}

/**
 * Adam whose adaptive rate is rectified while its variance is large: with `ρ = 2 / (1 − β₂) − 1` and
 * `ρₜ = ρ − 2 t β₂ᵗ / (1 − β₂ᵗ)`, the step is `θ ← θ − α r m̂ / (√n̂ + ε)` from ρₜ ≥ 5 on, where
 * `r² = (ρₜ − 4) (ρₜ − 2) ρ / ((ρ − 4) (ρ − 2) ρₜ)`, and before that `θ ← θ − α m̂`.
 * Defaults: lr 1e-3, betas [0.9, 0.999], eps 1e-8.
 *
 * Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond" (2020).
 */
export const radam = defineOptimizer({
  name: 'radam',
  entries: { betas: betas(0.9, 0.999), eps: v.optional(positive, 1e-8) },
  rule: ({ betas, eps }) => radamRule(betas, eps),
});
