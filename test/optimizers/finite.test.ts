import { gradientBatch, Parameters } from 'rxgrad';
import { Subject } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { scans } from './batches.ts';

const rates = [1e-3, 1e30, 3e38];
const areFinite = (params: Parameters): boolean => [...params].every(({ data }) => data.every(Number.isFinite));

describe('whether weights are finite', () => {
  const overflowed = new Set<string>();

  it.each(scans)('is known behind every step of %s, dense or of rows', (name, scan) => {
    for (const lr of rates) {
      const params = Parameters.create({
        table: { dims: [9, 3], data: Array.from({ length: 27 }, (_, i) => (i - 13) * 1e37) },
        bias: { dims: [5], data: [1, -2, 3, -4, 5] },
      });
      const batches$ = new Subject<ReturnType<typeof gradientBatch>>();
      batches$.pipe(scan(params, { lr })).subscribe();
      for (let i = 0; i < 6; i++) {
        const values = Float32Array.from({ length: 6 }, (_, j) => (j % 2 ? 1 : -1) * 10 ** (i * 4));
        const rows = { indices: [i, i + 2], values };
        batches$.next(gradientBatch({ gradients: i % 3 === 2 ? { bias: new Float32Array(5).fill(10 ** i) } : { table: rows } }));
        expect(params.version, 'applied').toBe(i + 1);
        expect(params.finite, `lr ${lr}, step ${i}`).toBe(areFinite(params));
      }
      if (!params.finite) overflowed.add(name);
    }
  });

  it('was put to the test by nearly all', () => {
    expect(overflowed.size).toBeGreaterThan(scans.length - 6);
  });
});
