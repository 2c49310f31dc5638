import fc from 'fast-check';
import { type GradientBatch, gradientBatch, Parameters } from 'rxgrad';
import { Subject } from 'rxjs';
import { expect, it } from 'vitest';
import { scans } from '../optimizers/batches.ts';

const rows = 24;
const model = (): Parameters =>
  Parameters.create({
    table: { dims: [rows, 2], data: Array.from({ length: 2 * rows }, (_, i) => i + 1) },
    bias: { dims: [3], data: [1, 2, 3] },
    still: { dims: [2], data: [4, 5] },
  });

const steps = fc.array(
  fc.record({
    touched: fc.uniqueArray(fc.nat(rows - 1), { minLength: 1, maxLength: 4 }),
    bias: fc.boolean(),
    isTaken: fc.boolean(),
  }),
  { minLength: 1, maxLength: 12 },
);

const bits = ({ buffer, byteOffset, length }: Float32Array): Uint32Array => new Uint32Array(buffer, byteOffset, length).slice();

it.each(scans)('of %s name all that steps have written', (_, scan) => {
  fc.assert(
    fc.property(steps, (batches) => {
      const params = model();
      const changes = params.changes();
      const batches$ = new Subject<GradientBatch>();
      batches$.pipe(scan(params, { lr: 0.1, threads: 0 })).subscribe();
      const weights = () => [...params].map(({ data }) => bits(data));
      let before = weights();
      let touched = new Set<number>();
      for (const batch of batches) {
        const values = Float32Array.from({ length: 2 * batch.touched.length }, (_, i) => i - 1.5);
        const bias = batch.bias ? { bias: Float32Array.of(1, -2, 3) } : {};
        batches$.next(gradientBatch({ gradients: { table: { indices: batch.touched, values }, ...bias } }));
        for (const row of batch.touched) touched.add(row);
        if (!batch.isTaken) continue;
        const taken = changes.take();
        const after = weights();
        for (const [index, was] of before.entries()) {
          const listed = taken.get(index);
          if (listed === null) continue;
          const width = index === 0 ? 2 : was.length;
          const differing = new Set([...was].flatMap((bit, i) => (bit === after[index]![i] ? [] : [Math.floor(i / width)])));
          expect([...differing].filter((row) => !listed?.includes(row))).toEqual([]);
        }
        const table = taken.get(0);
        if (table) expect([...table]).toEqual([...touched].toSorted((a, b) => a - b));
        expect(taken.has(2)).toBe(false);
        before = after;
        touched = new Set();
      }
    }),
    { numRuns: 20 },
  );
});

it('are whole beyond a quarter of a table, and where weights are loaded', () => {
  const params = model();
  const changes = params.changes();
  const batches$ = new Subject<GradientBatch>();
  batches$.pipe(scans[0]![1](params, { lr: 0.1, threads: 0 })).subscribe();
  const touch = (indices: number[]) =>
    batches$.next(gradientBatch({ gradients: { table: { indices, values: new Float32Array(2 * indices.length) } } }));
  for (const row of [5, 3, 5, 1, 0, 2, 4]) touch([row]);
  expect(changes.take()).toEqual(new Map([[0, Int32Array.of(0, 1, 2, 3, 4, 5)]]));
  for (const row of [5, 3, 5, 1, 0, 2, 4, 23]) touch([row]);
  expect(changes.take()).toEqual(new Map([[0, null]]));
  params.load({ bias: [1, 1, 1] });
  touch([7]);
  expect(changes.take()).toEqual(
    new Map<number, unknown>([
      [0, Int32Array.of(7)],
      [1, null],
    ]),
  );
  expect(changes.take()).toEqual(new Map());
  changes.close();
  touch([7]);
  expect(changes.take()).toEqual(new Map());
});
