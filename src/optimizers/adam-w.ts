import * as v from 'valibot';
import { positive } from '../options.ts';
import { adamWith, betas } from './adam.ts';
import { defineOptimizer } from './define-optimizer.ts';

/**
 * Adam with decoupled decay: `θ ← θ − α (m̂ / (√n̂ + ε) + λ θ)`. Defaults: lr 1e-3, betas [0.9, 0.999], eps 1e-8,
 * weightDecay 0.01.
 *
 * Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019).
 */
export const adamW = defineOptimizer({
  name: 'adamW',
  ownDecay: 0.01,
  entries: { betas: betas(0.9, 0.999), eps: v.optional(positive, 1e-8) },
  rule: ({ betas, eps }) => adamWith('AdamW', betas, eps),
});
