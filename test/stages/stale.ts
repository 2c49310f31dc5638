import { type GradientInput, gradientBatch, Parameters, type Rejection, type TrainingEvent } from 'rxgrad';
import { from, identity, lastValueFrom, type OperatorFunction, toArray } from 'rxjs';
import type { Scan } from '../optimizers/batches.ts';
import { wave } from './gradients.ts';

export type Between = OperatorFunction<TrainingEvent, TrainingEvent>;
export type Batch = Parameters_<typeof gradientBatch>;
type Parameters_<F extends (...args: never[]) => unknown> = F extends (...args: infer A) => unknown ? A[0] : never;

export const ROWS = 9;
export const WIDTH = 3;

export const model = (): Parameters =>
  Parameters.create({
    table: { dims: [ROWS, WIDTH], data: wave(ROWS * WIDTH) },
    bias: { dims: [5], data: wave(5, 1) },
    still: { dims: [2], data: [1, 2] },
  });
export const dense = (step: number): Record<string, GradientInput> => ({
  table: wave(ROWS * WIDTH, step),
  bias: wave(5, 2 * step),
});

/** Applies batches at a rate of 0.1, and returns what was rejected. */
export async function train(
  params: Parameters,
  scan: Scan,
  batches: readonly Batch[],
  { between = identity, threads = 0 }: { between?: Between; threads?: number } = {},
): Promise<Rejection[]> {
  const rejected: Rejection[] = [];
  const options = { lr: 0.1, threads, rejections: { next: (rejection: Rejection) => rejected.push(rejection) } };
  const events$ = from<TrainingEvent[]>(batches.map((batch) => gradientBatch(batch)));
  await lastValueFrom(events$.pipe(between, scan(params, options), toArray()));
  return rejected;
}
