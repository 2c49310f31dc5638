import MersenneTwister from 'mersenne-twister';
import { type GradientBatch, gradientBatch, Parameters, type TrainingEvent } from 'rxgrad';
import { from, identity, lastValueFrom, type OperatorFunction, toArray } from 'rxjs';
import type { Scan } from './batches.ts';

export type Between = OperatorFunction<TrainingEvent, TrainingEvent>;
type Rows = ReadonlyMap<number, readonly number[]>;

export const ROWS = 23;
export const WIDTH = 5;
const random = new MersenneTwister(11);
export const numbers = (length: number): number[] => Array.from({ length }, () => Math.fround(4 * random.random() - 2));
export const start = numbers(ROWS * WIDTH);
const bias = numbers(3);

export const rowOf = (values: ArrayLike<number>, row: number): number[] =>
  Array.from(values).slice(row * WIDTH, (row + 1) * WIDTH);
export const rowsAt = (values: ArrayLike<number>, rows: readonly number[]): number[] => rows.flatMap((row) => rowOf(values, row));

/** A table beside a small dense parameter. */
export function model(data = start): Parameters {
  return Parameters.create({ table: { dims: [data.length / WIDTH, WIDTH], data }, bias: { dims: [3], data: bias } });
}

export function gradientsFor(rows: readonly number[]): Rows {
  return new Map(rows.map((row) => [row, numbers(WIDTH)]));
}

export function sparse(rows: Rows): GradientBatch {
  const values = Float32Array.from([...rows.values()].flat());
  return gradientBatch({
    gradients: { bias: Float32Array.of(1, -2, 3), table: { indices: [...rows.keys()], values, dims: [rows.size, WIDTH] } },
  });
}

export function dense(table: readonly number[]): GradientBatch {
  return gradientBatch({ gradients: { bias: Float32Array.of(1, -2, 3), table: Float32Array.from(table) } });
}

export function spread(rows: Rows): number[] {
  return Array.from({ length: ROWS }, (_, row) => rows.get(row) ?? Array(WIDTH).fill(0)).flat();
}

export async function step(
  params: Parameters,
  scan: Scan,
  batches: readonly GradientBatch[],
  { between = identity, threads = 0 }: { between?: Between; threads?: number } = {},
): Promise<void> {
  await lastValueFrom(from(batches).pipe(between, scan(params, { lr: 0.1, threads }), toArray()));
}
