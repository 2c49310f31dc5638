import * as v from 'valibot';
import { equal, greater, kernel, max, min, mul, select, sign, sub } from '../kernels/kernel.ts';
import { positive } from '../options.ts';
import { defineOptimizer } from './define-optimizer.ts';

export const rpropKernel = kernel(
  'rprop',
  { arrays: ['previous', 'stepSize'], scalars: ['shrink', 'grow', 'smallest', 'largest'] },
  ({ w, g, previous, stepSize, shrink, grow, smallest, largest }) => {
    const agreement = mul(g, previous);
    const turned = greater(0, agreement);
    const changed = min(max(mul(stepSize, select(greater(agreement, 0), grow, shrink)), smallest), largest);
    const size = select(equal(agreement, 0), stepSize, changed);
    return {
      previous: select(turned, 0, mul(size, sign(g))),
      stepSize: size,
      w: sub(w, select(turned, 0, previous)),
    };
  },
);

/**
 * Steps by sizes s of each element's own, which start at lr (it plays no other part). With p, the step that the gradient before
 * asked for, s is multiplied by `etas[1]` where g p > 0 and by `etas[0]` where g p < 0, within `stepSizes`. Then `θ ← θ − p`;
 * `p ← s sign(g)`: as in optax, a step is taken one gradient later. But where g p < 0 it is given up: θ stays, and `p ← 0`, so
 * that θ stays at the next gradient, too. Defaults: lr 0.01, etas [0.5, 1.2], stepSizes [1e-6, 50].
 *
 * Riedmiller and Braun, "A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP Algorithm" (1993).
 */
export const rprop = defineOptimizer({
  name: 'rprop',
  lr: 0.01,
  entries: {
    etas: v.optional(v.pipe(v.strictTuple([positive, positive]), v.readonly()), [0.5, 1.2]),
    stepSizes: v.optional(v.pipe(v.strictTuple([positive, positive]), v.readonly()), [1e-6, 50]),
  },
  rule: ({ etas: [shrink, grow], stepSizes: [smallest, largest] }) => ({
    name: 'Rprop',
    state: [
      { name: 'previous', key: 'prev' },
      { name: 'stepSize', key: 'step_size', initial: (lr) => lr },
    ],
    passes: [{ kernel: rpropKernel, scalars: () => ({ shrink, grow, smallest, largest }) }],
  }),
});
