import * as v from 'valibot';
import { shapedKernel } from '../kernels/kernel.ts';
import { fraction, positive } from '../options.ts';
import { defineOptimizer } from './define-optimizer.ts';
import { prepared } from './prepared.ts';
import type { StateSpec } from './rule.ts';

const sm3Kernel = shapedKernel('sm3', {
  arrays: ['velocity', 'accumulators', 'next'],
  scalars: ['mu', 'rest', 'eps'],
});

/** One number for each index of each axis, axis after axis. */
const accumulator = (name: string): StateSpec => ({
  name,
  dims: (dims) => [dims.length === 0 ? 1 : dims.reduce((sum, dim) => sum + dim, 0)],
});

/**
 * Adagrad in the memory of one vector for each axis: `s = g² + a`, where a is the least accumulator of the element's indices;
 * `u = g / √(s + ε)`, 0 where s is; `m ← μ m + (1 − μ) u`; `θ ← θ − α m`; each accumulator becomes the largest s of its index.
 * Defaults: lr 1, momentum 0.9, eps 1e-8.
 *
 * Anil et al., "Memory-Efficient Adaptive Optimization" (2019), algorithm SM3-II; optax.sm3.
 */
export const sm3 = defineOptimizer({
  name: 'sm3',
  lr: 1,
  entries: { momentum: v.optional(fraction, 0.9), eps: v.optional(positive, 1e-8) },
  rule: ({ momentum, eps }) => ({
    name: 'SM3',
    state: [{ name: 'velocity', key: 'momentum_buffer' }, accumulator('accumulators'), { ...accumulator('next'), scratch: true }],
    passes: [prepared, { kernel: sm3Kernel, scalars: () => ({ mu: momentum, rest: 1 - momentum, eps }) }],
  }),
});
