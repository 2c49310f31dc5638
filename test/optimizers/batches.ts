import {
  adam,
  type GradientBatch,
  type GradientFacts,
  type GradientInput,
  gradientBatch,
  momentum,
  momentumNesterov,
  Parameters,
  type ScanOptions,
  sgd,
  type TrainingEvent,
  type WeightsUpdate,
} from 'rxgrad';
import type { OperatorFunction } from 'rxjs';

export type Scan = (params: Parameters, options?: ScanOptions) => OperatorFunction<TrainingEvent, WeightsUpdate>;

/** Every scan, the variants of one among them. */
export const scans: [string, Scan][] = [
  ['sgd', sgd],
  ['momentum', momentum],
  ['momentumNesterov', momentumNesterov],
  ['adam', adam],
  ['adam with amsgrad', (params, options) => adam(params, { ...options, amsgrad: true })],
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
