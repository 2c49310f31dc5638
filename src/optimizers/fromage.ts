import { kernel, mul, sub } from '../kernels/kernel.ts';
import { defineOptimizer } from './define-optimizer.ts';
import { norms } from './prepared.ts';

export const fromageKernel = kernel('fromage', { scalars: ['keep', 'rate'], prologue: false }, ({ w, g, keep, rate }) => ({
  w: sub(mul(keep, w), mul(rate, g)),
}));

// As optax: norms below count as this.
const SMALLEST_NORM = 1e-6;

/**
 * Steps by a fraction of each parameter's norm, then shrinks: `θ ← (θ − α ‖θ‖ / ‖g‖ · g) / √(1 + α²)`. A norm below 1e-6 counts
 * as 1e-6. Default: lr 1.
 *
 * Bernstein et al., "On the distance between two neural networks and the stability of learning" (2020).
 */
export const fromage = defineOptimizer({
  name: 'fromage',
  lr: 1,
  entries: {},
  rule: () => ({
    name: 'Fromage',
    state: [],
    passes: [
      norms,
      {
        kernel: fromageKernel,
        scalars({ lr, sums }) {
          const [weights, gradient] = sums.map((sum) => Math.max(Math.sqrt(sum), SMALLEST_NORM));
          const keep = 1 / Math.sqrt(1 + lr ** 2);
          return { keep, rate: (keep * lr * weights!) / gradient! };
        },
      },
    ],
  }),
});
