import fc from 'fast-check';
import { addDecayedWeights, clipByGlobalNorm, clipByValue, type GradientBatch, gradientBatch, Parameters } from 'rxgrad';
import { firstValueFrom, of } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { Arena } from '../src/kernels/arena.ts';
import { takeIn, tensorLayout } from '../src/payload.ts';

function sparse(indices: readonly number[], values: readonly number[], dims?: readonly number[]): GradientBatch {
  const rows = { indices, values: Float32Array.from(values), ...(dims ? { dims } : {}) };
  return gradientBatch({ gradients: { d: Float32Array.of(5), emb: rows } });
}

describe('rows', () => {
  it('are apart from dense gradients', () => {
    const batch = sparse([3, 8], [1, 2, 3, 4], [2, 2]);
    expect(batch.gradients).toEqual({ d: Float32Array.of(5) });
    expect(batch.rows).toEqual({ emb: { indices: Int32Array.of(3, 8), values: Float32Array.of(1, 2, 3, 4) } });
  });

  it('may come in any order, and stay in it', () => {
    const { indices, values } = sparse([8, 3], [1, 2, 3, 4]).rows.emb!;
    expect([...indices]).toEqual([8, 3]);
    expect([...values]).toEqual([1, 2, 3, 4]);
  });

  it('with the same number are added up as they come, and so is the norm', () => {
    const batch = sparse([4, 9, 4, 4], [1, 2, 3, 4, 5, 6, 7, 8], [4, 2]);
    expect(batch.rows).toEqual({ emb: { indices: Int32Array.of(4, 9), values: Float32Array.of(13, 16, 3, 4) } });
    expect(batch.norm()).toBe(Math.sqrt(25 + 169 + 256 + 9 + 16));
  });

  it('are those of the gradient that they make together', () => {
    const rows = fc.array(
      fc.tuple(fc.nat(6), fc.float({ noNaN: true, min: -8, max: 8 }), fc.float({ noNaN: true, min: -8, max: 8 })),
    );
    fc.assert(
      fc.property(rows, (given) => {
        const batch = sparse(
          given.map(([row]) => row),
          given.flatMap(([, a, b]) => [a, b]),
          [given.length, 2],
        );
        const table = new Float32Array(14);
        for (const [row, a, b] of given) {
          table[2 * row]! += a;
          table[2 * row + 1]! += b;
        }
        const { indices, values } = batch.rows.emb!;
        expect(new Set(indices).size).toBe(indices.length);
        expect(new Set(indices)).toEqual(new Set(given.map(([row]) => row)));
        const spread = new Float32Array(14);
        indices.forEach((row, i) => {
          spread.set(values.subarray(2 * i, 2 * i + 2), 2 * row);
        });
        expect(spread.map((x) => x + 0)).toEqual(table.map((x) => x + 0));
        expect(batch.norm()).toBeCloseTo(Math.hypot(5, ...table), 4);
      }),
    );
  });

  it('may be none', () => {
    const batch = sparse([], []);
    expect(batch.rows).toEqual({ emb: { indices: new Int32Array(), values: new Float32Array() } });
    expect(batch.norm()).toBe(5);
  });

  it('survive a map over the dense gradients, and can be replaced', () => {
    const batch = sparse([4, 9, 4], [1, 2, 3], [3]);
    const mapped = batch.withGradients({ d: Float32Array.of(6) });
    expect(mapped.gradients).toEqual({ d: Float32Array.of(6) });
    expect(mapped.rows).toEqual(batch.rows);
    expect(mapped.message.layout.tensors.map(({ dims }) => dims)).toEqual([null, [2]]);
    expect(batch.withGradients(batch.gradients).norm()).toBe(batch.norm());
    expect(batch.withGradients(batch.gradients, {}).rows).toEqual({});
  });

  it('go through the stages as dense gradients do', async () => {
    const params = Parameters.create({ d: { dims: [1], data: [3] }, emb: { dims: [4, 2], data: [1, 2, 3, 4, 5, 6, 7, 8] } });
    const batch = sparse([3, 1, 3], [2, 4, 6, 8, 2, 4], [3, 2]);
    const table = gradientBatch({
      gradients: { d: Float32Array.of(5), emb: Float32Array.of(4, 8, 6, 8) },
    });
    const weights = { has: () => true, get: (name: string) => ({ data: Float32Array.from(name === 'd' ? [3] : [7, 8, 3, 4]) }) };
    const through = (one: GradientBatch, decay: ReturnType<typeof addDecayedWeights>): Promise<unknown> =>
      firstValueFrom(of(one).pipe(clipByGlobalNorm(9), decay, clipByValue({ emb: 5 })));
    const got = (await through(batch, addDecayedWeights(0.5, params))) as GradientBatch;
    const expected = (await through(table, addDecayedWeights(0.5, weights))) as GradientBatch;
    expect({ d: got.gradients.d, emb: got.rows.emb!.values }).toEqual(expected.gradients);
    expect(got.norm()).toBe(expected.norm());
  });

  it.each([
    ['a number that is no whole one', [1.5], [1], undefined, 'indices: expected row numbers of 32 bits, from 0, got 1.5'],
    ['a negative number', [-1], [1], undefined, 'from 0, got -1'],
    ['a number beyond 32 bits', [2 ** 32], [1], undefined, 'got 4294967296'],
    ['rows that are not of one length', [1, 2], [1, 2, 3], undefined, 'rows of one length for 2 row numbers, got 3 values'],
    ['values without rows', [], [1], undefined, 'for 0 row numbers, got 1 values'],
    ['dims of other rows', [1, 2], [1, 2], [1, 2], 'dims: expected 2 rows with 2 values in all, got [1,2]'],
  ])('with %s are refused', (_, indices, values, dims, words) => {
    expect(() => sparse(indices, values, dims)).toThrow(words);
  });
});

describe('row numbers of 64 bits', () => {
  it('become those of 32, also across many blocks; what is too large stays too large', () => {
    const count = 5000;
    const numbers = BigInt64Array.from({ length: count }, (_, i) => BigInt(3 * i));
    numbers[count - 1] = 2n ** 40n;
    const payload = new Uint8Array([...new Uint8Array(numbers.buffer), ...new Uint8Array(4 * count)]);
    const rows = { begin: 0, count, dtype: 'I64' } as const;
    const layout = tensorLayout(
      [{ name: 'emb', dims: [count], dtype: 'F32', begin: 8 * count, length: count, rows }],
      payload.byteLength,
    );
    const arena = new Arena();
    const address = arena.allocate(layout.roomBytes);
    const taken = takeIn(arena, address, layout, payload).rows![0]!;
    expect(taken).toEqual({ count, least: 0, largest: 2 ** 31 - 1 });
    const got = new Int32Array(arena.memory.buffer, address + layout.tensors[0]!.rowsAt, count);
    expect([...got]).toEqual(Array.from({ length: count }, (_, i) => (i === count - 1 ? 2 ** 31 - 1 : 3 * i)));
  });
});
