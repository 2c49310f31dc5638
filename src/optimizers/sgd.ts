import * as v from 'valibot';
import { kernel, mul, sub } from '../kernels/kernel.ts';
import { fraction } from '../options.ts';
import { defineOptimizer } from './define-optimizer.ts';
import { momentumRule } from './momentum.ts';
import { momentumNesterovRule } from './momentum-nesterov.ts';
import type { Rule } from './rule.ts';

export const sgdKernel = kernel('sgd', {}, ({ w, g, lr }) => ({ w: sub(w, mul(lr, g)) }));

/** θ ← θ − α g */
const sgdRule: Rule = { name: 'SGD', state: [], passes: [{ kernel: sgdKernel, scalars: () => ({}) }] };

/**
 * Stochastic gradient descent: `θ ← θ − α g`. With `momentum` above 0 it steps as {@link momentum} does, with `nesterov` too as
 * {@link momentumNesterov}. Defaults: lr 1e-3, momentum 0, nesterov false.
 *
 * Robbins and Monro, "A Stochastic Approximation Method" (1951); torch.optim.SGD.
 */
export const sgd = defineOptimizer({
  name: 'sgd',
  entries: { momentum: v.optional(fraction, 0), nesterov: v.optional(v.boolean(), false) },
  rule({ momentum, nesterov }) {
    if (momentum === 0) return sgdRule;
    return nesterov ? momentumNesterovRule(momentum) : momentumRule(momentum);
  },
});
