import * as v from 'valibot';
import { add, div, kernel, type Lanes, moving, mul, sqrt, square, sub } from '../kernels/kernel.ts';
import { fraction, positive } from '../options.ts';
import { defineOptimizer } from './define-optimizer.ts';
import type { Rule } from './rule.ts';

const scalars = ['alpha', 'rest', 'eps', 'mu'] as const;

const scaled = (g: Lanes, variance: Lanes, eps: Lanes): Lanes => mul(div(1, sqrt(add(variance, eps))), g);

const plainKernel = kernel('rmsprop', { arrays: ['squares'], scalars }, ({ w, g, lr, squares, alpha, rest, eps }) => {
  const next = moving(squares, square(g), alpha, rest);
  return { squares: next, w: sub(w, mul(lr, scaled(g, next, eps))) };
});

const momentumKernel = kernel(
  'rmspropMomentum',
  { arrays: ['squares', 'velocity'], scalars },
  ({ w, g, lr, squares, velocity, alpha, rest, eps, mu }) => {
    const next = moving(squares, square(g), alpha, rest);
    const faster = add(mul(mu, velocity), scaled(g, next, eps));
    return { squares: next, velocity: faster, w: sub(w, mul(lr, faster)) };
  },
);

const centeredKernel = kernel(
  'rmspropCentered',
  { arrays: ['squares', 'mean'], scalars },
  ({ w, g, lr, squares, mean, alpha, rest, eps }) => {
    const next = moving(squares, square(g), alpha, rest);
    const center = moving(mean, g, alpha, rest);
    return { squares: next, mean: center, w: sub(w, mul(lr, scaled(g, sub(next, square(center)), eps))) };
  },
);

const centeredMomentumKernel = kernel(
  'rmspropCenteredMomentum',
  { arrays: ['squares', 'mean', 'velocity'], scalars },
  ({ w, g, lr, squares, mean, velocity, alpha, rest, eps, mu }) => {
    const next = moving(squares, square(g), alpha, rest);
    const center = moving(mean, g, alpha, rest);
    const faster = add(mul(mu, velocity), scaled(g, sub(next, square(center)), eps));
    return { squares: next, mean: center, velocity: faster, w: sub(w, mul(lr, faster)) };
  },
);

export const rmspropKernels = [plainKernel, momentumKernel, centeredKernel, centeredMomentumKernel];

const keys: Readonly<Record<string, string>> = { squares: 'square_avg', mean: 'grad_avg', velocity: 'momentum_buffer' };

function rmspropRule(alpha: number, eps: number, mu: number, centered: boolean): Rule {
  const kernel = rmspropKernels[(centered ? 2 : 0) + (mu > 0 ? 1 : 0)]!;
  return {
    name: 'RMSprop',
    state: kernel.arrays.map((name) => ({ name, key: keys[name]! })),
    passes: [{ kernel, scalars: () => ({ alpha, rest: 1 - alpha, eps, mu }) }],
  };
}

/**
 * Divides by a moving root mean square: `s ← a s + (1 − a) g²`; `u = g / √(s + ε)`, with `centered` s − m² in the place of s,
 * where `m ← a m + (1 − a) g`; with momentum `v ← μ v + u`, else v is u; `θ ← θ − α v`; a is `alpha`. As in optax, ε stands
 * under the root. Defaults: lr 0.01, alpha 0.99, eps 1e-8, momentum 0, centered false.
 *
 * Tieleman and Hinton, "Lecture 6.5: rmsprop" (2012); Graves, "Generating Sequences With Recurrent Neural Networks" (2013).
 */
export const rmsprop = defineOptimizer({
  name: 'rmsprop',
  lr: 0.01,
  entries: {
    alpha: v.optional(fraction, 0.99),
    eps: v.optional(positive, 1e-8),
    momentum: v.optional(fraction, 0),
    centered: v.optional(v.boolean(), false),
  },
  rule: ({ alpha, eps, momentum, centered }) => rmspropRule(alpha, eps, momentum, centered),
});
