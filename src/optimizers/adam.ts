import type { OperatorFunction } from 'rxjs';
import * as v from 'valibot';
import type { TrainingEvent } from '../events.ts';
import { fraction, parseOptions, positive } from '../options.ts';
import type { Parameters } from '../params/parameters.ts';
import type { Rule } from './rule.ts';
import { type ScanOptions, scanEntries, scanWith } from './scan.ts';
import type { WeightsUpdate } from './weights-update.ts';

const schema = v.strictObject({
  ...scanEntries,
  betas: v.optional(v.pipe(v.strictTuple([fraction, fraction]), v.readonly()), [0.9, 0.999]),
  eps: v.optional(positive, 1e-8),
  amsgrad: v.optional(v.boolean(), false),
});

/** m ← β₁ m + (1 − β₁) g; n ← β₂ n + (1 − β₂) g²; θ ← θ − α m̂ / (√n̂ + ε), each parameter with its own count of steps */
export const adamRule = ([beta1, beta2]: readonly [number, number], eps: number, amsgrad: boolean): Rule => ({
  name: 'Adam',
  state: amsgrad ? ['mean', 'square', 'maximum'] : ['mean', 'square'],
  apply(kernels, { w, out, g, length, state }, { scale, limit, decay }, lr, count) {
    const rate = lr / (1 - beta1 ** count);
    const correction = 1 / (1 - beta2 ** count);
    const [m, n, x] = state as [number, number, number];
    if (amsgrad) {
      kernels.amsgrad(w, out, g, m, n, x, length, scale, limit, decay, beta1, 1 - beta1, beta2, 1 - beta2, correction, eps, rate);
    } else {
      kernels.adam(w, out, g, m, n, length, scale, limit, decay, beta1, 1 - beta1, beta2, 1 - beta2, correction, eps, rate);
    }
  },
});

/**
 * Scans gradients into weights with adaptive moments. `amsgrad` divides by the largest corrected second moment so far, as
 * optax does. Defaults: lr 1e-3, betas [0.9, 0.999], eps 1e-8, amsgrad false.
 *
 * Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015); Reddi, Kale and Kumar, "On the Convergence of Adam and
 * Beyond" (2018).
 */
export function adam(
  params: Parameters,
  options: ScanOptions & { readonly betas?: readonly [number, number]; readonly eps?: number; readonly amsgrad?: boolean } = {},
): OperatorFunction<TrainingEvent, WeightsUpdate> {
  const { betas, eps, amsgrad, ...rest } = parseOptions(schema, options, 'adam');
  return scanWith(params, adamRule(betas, eps, amsgrad), rest);
}
