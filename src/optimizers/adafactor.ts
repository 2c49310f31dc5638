import * as v from 'valibot';
import { add, div, kernel, moving, mul, shapedKernel, sqrt, square, sub } from '../kernels/kernel.ts';
import { fraction, positive } from '../options.ts';
import { defineOptimizer } from './define-optimizer.ts';
import { prepared } from './prepared.ts';
import type { Pass, Rule, StepFacts } from './rule.ts';

const momentScalars = ['rho', 'rest', 'eps'] as const;

/** Leaves the direction in the place of the gradient; its sums are the squares of the direction and of the weights. */
const factoredKernel = shapedKernel('adafactorFactored', {
  arrays: ['row', 'column', 'work'],
  scalars: momentScalars,
  sumCount: 2,
});

const wholeKernel = kernel(
  'adafactorWhole',
  { arrays: ['variance'], scalars: momentScalars, prologue: false },
  ({ w, g, variance, rho, rest, eps }) => {
    const next = moving(variance, add(square(g), eps), rho, rest);
    const u = div(g, sqrt(next));
    return { variance: next, g: u, sums: [square(u), square(w)] };
  },
);

const stepScalars = ['rate', 'shrink'] as const;

const stepKernel = kernel('adafactorStep', { scalars: stepScalars, prologue: false }, ({ w, g, rate, shrink }) => ({
  w: sub(sub(w, mul(shrink, w)), mul(rate, g)),
}));

const momentumKernel = kernel(
  'adafactorMomentum',
  { arrays: ['mean'], scalars: [...stepScalars, 'beta1', 'rest1'], prologue: false },
  ({ w, g, mean, rate, shrink, beta1, rest1 }) => {
    const m = moving(mean, mul(rate, g), beta1, rest1);
    return { mean: m, w: sub(sub(w, mul(shrink, w)), m) };
  },
);

export const adafactorKernels = [wholeKernel, stepKernel, momentumKernel];

interface Settings {
  readonly eps: readonly [number, number];
  readonly clipThreshold: number;
  readonly decayRate: number;
  readonly beta1: number | null;
  readonly factored: boolean;
  readonly relativeStep: boolean;
}

function adafactorRule({ eps, clipThreshold, decayRate, beta1, factored, relativeStep }: Settings): Rule {
  const isFactored = (dims: readonly number[]): boolean => factored && dims.length >= 2;
  const moments: Pass['scalars'] = ({ count }) => ({ rho: 1 - count ** -decayRate, rest: count ** -decayRate, eps: eps[0] });
  const scalars = ({ lr, count, length, weightDecay, sums }: StepFacts) => {
    const [direction, weights] = sums.map((sum) => Math.sqrt(sum / length));
    const alpha = relativeStep ? Math.max(eps[1], weights!) * Math.min(lr, 1 / Math.sqrt(count)) : lr;
    return { rate: alpha / Math.max(1, direction! / clipThreshold), shrink: alpha * weightDecay };
  };
  return {
    name: 'Adafactor',
    state: [
      { name: 'row', key: 'exp_avg_sq_row', dims: (dims) => (isFactored(dims) ? dims.slice(0, -1) : [0]) },
      {
        name: 'column',
        key: 'exp_avg_sq_col',
        dims: (dims) => (isFactored(dims) ? [...dims.slice(0, -2), dims.at(-1)!] : [0]),
      },
      // As many float64 as there are columns.
      { name: 'work', dims: (dims) => [isFactored(dims) ? 2 * dims.at(-1)! : 0], scratch: true },
      { name: 'variance', key: 'exp_avg_sq', dims: (dims) => (isFactored(dims) ? [0] : dims) },
      ...(beta1 === null ? [] : [{ name: 'mean', key: 'exp_avg' }]),
    ],
    passes: [
      prepared,
      { kernel: factoredKernel, scalars: moments, when: ({ dims }) => isFactored(dims) },
      { kernel: wholeKernel, scalars: moments, when: ({ dims }) => !isFactored(dims) },
      beta1 === null
        ? { kernel: stepKernel, scalars }
        : { kernel: momentumKernel, scalars: (step) => ({ ...scalars(step), beta1, rest1: 1 - beta1 }) },
    ],
  };
}

/**
 * Adam's second moment in the memory of its rows' and columns' means: with `ρ = 1 − t^−decayRate`, `r ← ρ r + (1 − ρ) mean of
 * (g² + ε₁)` over columns, c likewise over rows; `n = r c / mean(r)`; `u = g / √n`; `θ ← θ − α λ θ − α u / max(1, RMS(u) /
 * clipThreshold)`. Of more than two axes the last two are factored; with fewer, or `factored` false, n is kept whole:
 * `n ← ρ n + (1 − ρ) (g² + ε₁)`. With `beta1` a moving average of the steps is taken; decay is not in it. α is lr where it is
 * given, else `max(ε₂, RMS(θ)) · min(lr, 1 / √t)`.
 * Defaults: lr 0.01, eps [1e-30, 1e-3], clipThreshold 1, decayRate 0.8, beta1 null, factored true, weightDecay 0.
 *
 * Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost" (2018), algorithms 4 and 5.
 */
export const adafactor = defineOptimizer({
  name: 'adafactor',
  lr: 0.01,
  ownDecay: 0,
  entries: {
    eps: v.optional(v.pipe(v.strictTuple([positive, positive]), v.readonly()), [1e-30, 1e-3]),
    clipThreshold: v.optional(positive, 1),
    decayRate: v.optional(positive, 0.8),
    beta1: v.optional(v.nullable(fraction), null),
    factored: v.optional(v.boolean(), true),
  },
  rule: (options, lrGiven) => adafactorRule({ ...options, relativeStep: !lrGiven }),
});
