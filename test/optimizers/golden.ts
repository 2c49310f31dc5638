import { readFileSync } from 'node:fs';
import { Parameters, type RuleConfig } from 'rxgrad';

type Tensors = Record<string, number[]>;

/** A run of a braintools 0.3.0 optimizer: see test/golden/README.md. */
export interface GoldenRun {
  readonly name: string;
  readonly optimizer: string;
  readonly config: Record<string, unknown>;
  readonly shapes: Record<string, number[]>;
  readonly params: Tensors;
  readonly steps: { grad: Tensors; lr: number; epochEnd: boolean; weights: Tensors }[];
}

export const goldenRuns = JSON.parse(
  readFileSync(new URL('../golden/optimizers.json', import.meta.url), 'utf8'),
) as readonly GoldenRun[];

/** braintools' spelling (T_max, eta_min) in camel case. */
export function camelCase(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(camelCase);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [
      key.replace(/^T_/, 't_').replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase()),
      camelCase(inner),
    ]),
  );
}

export function configOf(run: GoldenRun): RuleConfig {
  return { type: run.optimizer, ...(camelCase(run.config) as object) } as RuleConfig;
}

export function parametersOf(run: GoldenRun): Parameters {
  return Parameters.create(
    Object.fromEntries(Object.entries(run.params).map(([name, data]) => [name, { dims: run.shapes[name]!, data }])),
  );
}

export function gradientsOf(grad: Tensors): Record<string, Float32Array> {
  return Object.fromEntries(Object.entries(grad).map(([name, data]) => [name, Float32Array.from(data)]));
}

/** The largest |Δ| / max(1, |θ|) over all weights. */
export function deviation(params: Parameters, expected: Tensors): number {
  return Math.max(
    ...Object.entries(expected).flatMap(([name, values]) =>
      values.map((value, i) => Math.abs(params.get(name).data[i]! - value) / Math.max(1, Math.abs(value))),
    ),
  );
}
