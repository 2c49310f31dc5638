import { gradientBatch, momentum, type Parameters, type ScanOptions, staleness, type TrainingEvent } from 'rxgrad';
import { from } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { type FileTensor, planTensorFile, readTensorFile, writeTensorFile } from '../../src/params/tensor-file.ts';
import { wave } from '../stages/gradients.ts';
import { dense, model, ROWS, WIDTH } from '../stages/stale.ts';
import { bitsOf } from './batches.ts';

interface Facts {
  averaged: number[];
  history: { versions: number[]; rows: [string, number, number[]][] };
}
type Change = (tensors: Map<string, FileTensor>, facts: Facts) => unknown;

const policy = { type: 'compensate', adaptive: true, versions: 4 } as const;
const zeros = (length: number): FileTensor => ({ dims: [length], data: new Float32Array(length) });

/** Parameters whose average goes into others, and the scan's options for that. */
function averaged(): { params: Parameters; options: ScanOptions } {
  const into = model();
  return { params: into.twin(), options: { average: { into } } };
}

/** The state dict of a run that compensates and averages, after something was done to it. */
function saved(change: Change): Uint8Array {
  const { params, options } = averaged();
  const rows = { table: { indices: [3], values: wave(WIDTH), dims: [1, WIDTH] } };
  from([dense(0), rows].map((gradients): TrainingEvent => gradientBatch({ gradients })))
    .pipe(staleness(policy), momentum(params, options))
    .subscribe();
  const { tensors, metadata } = readTensorFile(params.stateDict());
  const changed = new Map(tensors);
  const facts = JSON.parse(metadata['rxgrad.state']!);
  change(changed, facts);
  return writeTensorFile(planTensorFile(changed, { ...metadata, 'rxgrad.state': JSON.stringify(facts) }));
}

/** Loads a file, and runs on from it; returns what that failed with. */
function failureOf(file: Uint8Array, strict = true): unknown {
  const { params, options } = averaged();
  const beside = params.twin();
  const before = bitsOf(beside);
  params.loadStateDict(file, { strict });
  let failure: unknown;
  from([gradientBatch({ gradients: dense(3), base: 1 })])
    .pipe(staleness(policy), momentum(params, options))
    .subscribe({ error: (error) => (failure = error) });
  expect(bitsOf(beside)).toEqual(before);
  return failure;
}

describe('old weights and averages in a state dict', () => {
  it('that are as they were written are taken up', () => {
    expect(failureOf(saved(() => {}))).toBeUndefined();
  });

  it.each<[string, Change, string]>([
    [
      'rows that the table does not have',
      (_, { history }) => (history.rows[0]![2] = [ROWS]),
      '"table.delay_weights_1" has row 9',
    ],
    ['rows before the first', (_, { history }) => (history.rows[0]![2] = [-1]), '"table.delay_weights_1" has row -1'],
    [
      'more rows than weights',
      (_, { history }) => (history.rows[0]![2] = [1, 2]),
      '"table.delay_weights_1" has dims [2,3], got [1,3]',
    ],
    [
      'more than the parameter has',
      (tensors) => tensors.set('state.bias.delay_weights_0', zeros(700)),
      '"bias.delay_weights_0" has dims [5], got [700]',
    ],
    [
      'more mean squares than the parameter has',
      (tensors) => tensors.set('state.bias.delay_mean_square', zeros(700)),
      '"bias.delay_mean_square" has dims [5], got [700]',
    ],
    [
      'of a version that is not listed',
      (tensors) => tensors.set('state.bias.delay_weights_7', zeros(5)),
      '"bias.delay_weights_7" is of no version that is kept',
    ],
    [
      'versions with a gap',
      (_, { history }) => (history.versions = [0, 2]),
      'expected old weights of versions that follow each other, got 0,2',
    ],
    ['an average that is missing', (tensors) => tensors.delete('state.bias.average'), '"bias.average" [5] is missing'],
    [
      'an average of another length',
      (tensors) => tensors.set('state.bias.average', zeros(7)),
      '"bias.average" has dims [5], got [7]',
    ],
  ])('are refused: %s', (_, change, message) => {
    expect(failureOf(saved(change))).toMatchObject({
      code: 'RXGRAD_PARAMETERS_DIFFER',
      message: expect.stringContaining(message),
    });
    const failure = failureOf(saved(change), false) as { code?: string } | undefined;
    expect(failure?.code).not.toBe('RXGRAD_PARAMETERS_DIFFER');
  });

  it('are refused, in any case, where an average lists more parameters than there are', () => {
    for (const strict of [true, false]) {
      expect(
        failureOf(
          saved((_, { averaged }) => averaged.push(1)),
          strict,
        ),
      ).toMatchObject({
        code: 'RXGRAD_INVALID_CHECKPOINT',
        message: expect.stringContaining('expected averaged of its 3 parameters, got 4'),
      });
    }
  });
});
