import * as v from 'valibot';
import { add, kernel, mul, sub } from '../kernels/kernel.ts';
import { fraction, positive } from '../options.ts';
import { defineOptimizer } from './define-optimizer.ts';
import { norms } from './prepared.ts';

export const larsKernel = kernel(
  'lars',
  { arrays: ['velocity'], scalars: ['mu', 'trust'], prologue: false },
  ({ w, g, lr, velocity, mu, trust }) => {
    const next = add(mul(mu, velocity), mul(trust, g));
    return { velocity: next, w: sub(w, mul(lr, next)) };
  },
);

function trust([weights, gradient]: readonly number[], coefficient: number, eps: number): number {
  return weights === 0 || gradient === 0 ? 1 : (coefficient * Math.sqrt(weights!)) / (Math.sqrt(gradient!) + eps);
}

/**
 * Momentum with a rate for each parameter that follows from its norms: `v ← μ v + c ‖θ‖ / (‖g‖ + ε) · g`; `θ ← θ − α v`, with
 * the factor 1 where a norm is 0; c is `trustCoefficient`. Defaults: lr 1, momentum 0.9, trustCoefficient 1e-3, eps 1e-8.
 *
 * You, Gitman and Ginsburg, "Large Batch Training of Convolutional Networks" (2017).
 */
export const lars = defineOptimizer({
  name: 'lars',
  lr: 1,
  entries: {
    momentum: v.optional(fraction, 0.9),
    trustCoefficient: v.optional(positive, 1e-3),
    eps: v.optional(positive, 1e-8),
  },
  rule: ({ momentum, trustCoefficient, eps }) => ({
    name: 'Lars',
    state: [{ name: 'velocity', key: 'momentum_buffer' }],
    passes: [norms, { kernel: larsKernel, scalars: ({ sums }) => ({ mu: momentum, trust: trust(sums, trustCoefficient, eps) }) }],
  }),
});
