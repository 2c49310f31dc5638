import { GradientBatch, gradientBatch, Parameters, type Rejection, sgd } from 'rxgrad';
import { from } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { tensorLayout } from '../../src/payload.ts';
import { bitsOf } from './batches.ts';
import { model, ROWS, start, step, WIDTH } from './touched-rows.ts';

describe('rows that do not fit', () => {
  const rows = (indices: readonly number[], dims?: readonly number[], width = WIDTH) => ({
    indices,
    values: new Float32Array(indices.length * width),
    ...(dims ? { dims } : {}),
  });
  /** As from the wire, where any number can come. */
  const numbered = (number: number): GradientBatch => {
    const payload = new Uint8Array([...new Uint8Array(Int32Array.of(number).buffer), ...new Uint8Array(4 * WIDTH)]);
    const tensor = { name: 'table', dims: [1, WIDTH], dtype: 'F32', begin: 4, length: WIDTH } as const;
    const layout = tensorLayout([{ ...tensor, rows: { begin: 0, count: 1, dtype: 'I32' } }], payload.byteLength);
    return new GradientBatch({ layout, payload, facts: {}, delivery: null }, null);
  };

  it.each<[string, GradientBatch, string]>([
    ['behind the last row', numbered(ROWS), 'expected row numbers of "table" from 0 to 22, got 23'],
    ['before the first row', numbered(-1), 'expected row numbers of "table" from 0 to 22, got -1'],
    ['of another width', gradientBatch({ gradients: { table: rows([1], [1, 4], 4) } }), 'with dims [rows,5], got [1,4]'],
    ['of another rank', gradientBatch({ gradients: { table: rows([1], [1, 5, 1]) } }), 'with dims [rows,5], got [1,5,1]'],
    ['of another width, without dims', gradientBatch({ gradients: { table: rows([1, 2], undefined, 4) } }), '8 values in 2 rows'],
    ['of a scalar', gradientBatch({ gradients: { scalar: rows([0], [1], 1) } }), 'with dims [no rows], got [1]'],
    ['of a parameter that is not there', gradientBatch({ gradients: { other: rows([0]) } }), 'got "other"'],
  ])('%s are rejected, and leave all as it is', (_, batch, words) => {
    const params = Parameters.create({ table: { dims: [ROWS, WIDTH], data: start }, scalar: { dims: [] } });
    const rejected: Rejection[] = [];
    const before = bitsOf(params);
    from([batch])
      .pipe(sgd(params, { rejections: { next: (rejection) => rejected.push(rejection) } }))
      .subscribe();
    expect(rejected.map(({ error }) => error.message)).toEqual([expect.stringContaining(words)]);
    expect(bitsOf(params)).toEqual(before);
    expect(params.version).toBe(0);
  });

  it('none at all fit any table', async () => {
    const params = model();
    await step(params, sgd, [gradientBatch({ gradients: { table: rows([]) } })]);
    expect(params.version).toBe(1);
  });
});
