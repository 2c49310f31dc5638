import * as v from 'valibot';
import { abs, add, div, greater, kernel, mul, select, sign, sqrt, square, sub } from '../kernels/kernel.ts';
import { expectOption, nonNegative } from '../options.ts';
import { defineOptimizer } from './define-optimizer.ts';

export const ftrlKernel = kernel(
  'ftrl',
  { arrays: ['z', 'n'], scalars: ['perRate', 'beta', 'l1', 'l2'] },
  ({ w, g, z, n, perRate, beta, l1, l2 }) => {
    const g2 = square(g);
    const nextN = add(n, g2);
    const roots = add(sqrt(nextN), sqrt(n));
    // √(n + g²) − √n, written so that it does not cancel where n is large.
    const difference = select(greater(roots, 0), div(g2, roots), 0);
    const nextZ = add(z, sub(g, mul(mul(difference, perRate), w)));
    const slope = add(mul(add(beta, sqrt(nextN)), perRate), l2);
    const active = div(sub(mul(sign(nextZ), l1), nextZ), slope);
    return { z: nextZ, n: nextN, w: select(greater(abs(nextZ), l1), active, 0) };
  },
);

/**
 * FTRL-Proximal, each coordinate by itself: `σ = (√(n + g²) − √n) / α`; `z ← z + g − σ θ`; `n ← n + g²`;
 * `θ ← 0` where `|z| ≤ λ₁`, else `θ ← −(z − sgn(z) λ₁) / ((β + √n) / α + λ₂)`; β is `beta`, λ₁ `l1`, λ₂ `l2`. As z starts at 0, so
 * do the weights: those given are forgotten, but with `warmStart`, which starts z where it stands for them.
 * Defaults: lr 0.1, beta 1, l1 0, l2 0, warmStart false.
 *
 * McMahan et al., "Ad Click Prediction: a View from the Trenches" (2013), algorithm 1.
 */
export const ftrl = defineOptimizer({
  name: 'ftrl',
  lr: 0.1,
  entries: {
    beta: v.optional(nonNegative, 1),
    l1: v.optional(nonNegative, 0),
    l2: v.optional(nonNegative, 0),
    warmStart: v.optional(v.boolean(), false),
  },
  rule({ beta, l1, l2, warmStart }) {
    // Where both are 0, no z stands for weights before the first gradient.
    expectOption(!warmStart || beta + l2 > 0, 'ftrl: warmStart', 'with it beta or l2 above 0', 'both 0');
    return {
      name: 'FTRL',
      state: [
        { name: 'z', initial: warmStart ? (lr, weight) => -weight * (beta / lr + l2) - Math.sign(weight) * l1 : 0 },
        { name: 'n' },
      ],
      passes: [{ kernel: ftrlKernel, scalars: ({ lr }) => ({ perRate: 1 / lr, beta, l1, l2 }) }],
    };
  },
});
