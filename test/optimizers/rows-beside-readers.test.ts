import fc from 'fast-check';
import { adam, gradientBatch, momentum } from 'rxgrad';
import { from, lastValueFrom, map } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { bitsOf, type Scan, scans } from './batches.ts';
import { dense, gradientsFor, model, numbers, ROWS, sparse, start, step, WIDTH } from './touched-rows.ts';

describe('readers on the other side', () => {
  const kinds = fc.constantFrom('rows', 'rows', 'rows', 'dense', 'bias');
  const plan = fc.array(
    fc.record({ kind: kinds, rows: fc.uniqueArray(fc.nat(ROWS - 1), { maxLength: 4 }), swap: fc.boolean() }),
    { minLength: 1, maxLength: 12 },
  );

  it.each<[string, Scan]>([
    ['Momentum', (params, options) => momentum(params, options)],
    ['Adam', adam],
    ['Lamb', scans.find(([name]) => name.startsWith('Lamb'))![1]],
  ])('see whole versions, with the bits of a run without them (%s)', (_, scan) => {
    fc.assert(
      fc.property(plan, (steps) => {
        const [inPlace, beside] = [model(), model()];
        const batches = steps.map(({ kind, rows }) => {
          if (kind === 'rows') return sparse(gradientsFor(rows));
          if (kind === 'dense') return dense(numbers(ROWS * WIDTH));
          return gradientBatch({ gradients: { bias: Float32Array.of(3, 2, 1) } });
        });
        const versions: number[][] = [bitsOf(inPlace)];
        from(batches)
          .pipe(scan(inPlace, { threads: 0 }))
          .subscribe(() => versions.push(bitsOf(inPlace)));
        const reader = beside.reader();
        from(batches)
          .pipe(scan(beside, { threads: 0 }))
          .subscribe(({ facts: { version } }) => {
            expect(bitsOf(beside)).toEqual(versions[version]);
            if (steps[version - 1]!.swap) beside.swap();
            reader.read((weights, seen) => {
              const bits = Object.values(weights).flatMap((data) => [...new Uint32Array(data.slice().buffer)]);
              expect(bits).toEqual(versions[seen]);
            });
          });
        reader.close();
        expect(versions).toHaveLength(steps.length + 1);
      }),
    );
  });

  it.each([0, 1, 2])('of a table that a pool steps (%i threads)', async (threads) => {
    const data = numbers(20_000 * WIDTH);
    const steps = Array.from({ length: 9 }, (_, i) =>
      sparse(gradientsFor(Array.from({ length: i % 3 === 2 ? 15_000 : 500 }, (_, j) => (j * 7 + 1000 * i) % 20_000))),
    );
    const expected = model(data);
    await step(expected, momentum, steps);
    const params = model(data);
    const reader = params.reader();
    let updates = 0;
    const updates$ = from(steps).pipe(momentum(params, { lr: 0.1, threads }));
    await lastValueFrom(updates$.pipe(map(() => ++updates % 2 === 0 && params.swap())));
    expect(bitsOf(params)).toEqual(bitsOf(expected));
    reader.close();
  });

  it('also after weights were loaded', async () => {
    const [inPlace, beside] = [model(), model()];
    const reader = beside.reader();
    for (const params of [inPlace, beside]) {
      await step(params, momentum, [sparse(new Map([[3, [1, 2, 3, 4, 5]]]))]);
      params.load({ table: start.map((x) => x + 1) });
      for (const row of [7, 8, 9]) {
        await step(params, momentum, [sparse(new Map([[row, [1, 2, 3, 4, 5]]]))]);
        params.swap();
      }
    }
    expect(bitsOf(beside)).toEqual(bitsOf(inPlace));
    reader.close();
  });
});
