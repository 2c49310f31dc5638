import {
  type GradientBatch,
  type GradientFacts,
  type GradientInput,
  gradientBatch,
  lookahead,
  Parameters,
  type RuleConfig,
  type ScanOptions,
  type TrainingEvent,
  type WeightsUpdate,
} from 'rxgrad';
import type { OperatorFunction } from 'rxjs';
import { ruleTypes } from '../../src/optimizers/rule-types.ts';

export type Scan = (params: Parameters, options?: ScanOptions) => OperatorFunction<TrainingEvent, WeightsUpdate>;

/** Options that lead to other kernels or other state than a type's defaults do. */
const variants: { readonly [T in keyof typeof ruleTypes]?: readonly object[] } = {
  SGD: [{ momentum: 0.9 }, { momentum: 0.9, nesterov: true }],
  Adam: [{ amsgrad: true }],
  RMSprop: [{ momentum: 0.9 }, { centered: true }, { momentum: 0.9, centered: true }],
  Adafactor: [{ beta1: 0.9 }, { factored: false }],
  FTRL: [{ l1: 0.1, warmStart: true }],
};

/** Every optimizer and variant: its name, and its scan. */
export const scans: [string, Scan][] = [
  ...Object.entries(ruleTypes).flatMap(([type, scan]) =>
    [{}, ...(variants[type as keyof typeof ruleTypes] ?? [])].map((own): [string, Scan] => [
      `${type} ${JSON.stringify(own)}`,
      (params, options) => (scan as Scan)(params, { ...options, ...own }),
    ]),
  ),
  ...(['Momentum', 'Adam'] as const).map((type): [string, Scan] => [
    `Lookahead of ${type}`,
    (params, { lr = 1e-3, ...options } = {}) =>
      lookahead(params, { ...options, baseOptimizer: { type, lr } as RuleConfig, syncPeriod: 2 }),
  ]),
];

/** A model of three parameters; their lengths end in the middle of vectors. */
export function model(): Parameters {
  return Parameters.create({
    a: { dims: [2, 3], data: [1, -2, 3, -4, 5, -6] },
    b: { dims: [3], data: [0.5, 0, -0.5] },
    c: { dims: [], data: [7] },
  });
}

const lengths: Readonly<Record<string, number>> = { a: 6, b: 3, c: 1 };

/** A batch for {@link model}, or for some parameters of it. */
export function batch(value = 1, facts: GradientFacts = {}, names: readonly string[] = ['a', 'b', 'c']): GradientBatch {
  const gradients = names.map((name) => [name, Float32Array.from({ length: lengths[name]! }, (_, i) => value * (i + 1))]);
  return gradientBatch({ gradients: Object.fromEntries(gradients), ...facts });
}

export function batchOf(gradients: Readonly<Record<string, GradientInput>>): GradientBatch {
  return gradientBatch({ gradients });
}

/** Every bit of the newest weights. */
export function bitsOf(params: Parameters): number[] {
  return [...params].flatMap(({ data }) => [...new Uint32Array(data.slice().buffer)]);
}
