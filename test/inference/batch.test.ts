import { Tensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { isBatchable, joined, Signatures, split } from '../../src/inference/batch.ts';
import { assertFeeds } from '../../src/inference/feeds.ts';

const x = { name: 'x', type: 'float32', dims: ['n', 2] };
const y = { name: 'y', type: 'float32', dims: ['n', 'w'] };
const f32 = (values: number[], dims: number[]) => new Tensor('float32', values, dims);

describe('predictions can be put together', () => {
  it.each<[string, (typeof x)[], (typeof y)[], boolean]>([
    ['where all first dimensions are the same unknown', [x, { ...x, name: 'z' }], [y], true],
    ['whatever the outputs call theirs', [x], [{ ...y, dims: ['rows'] }], true],
    ['not where one is fixed', [x, { ...x, dims: [1, 2] as never }], [y], false],
    ['not where they are others', [x, { ...x, dims: ['m', 2] }], [y], false],
    ['not where all are fixed', [{ ...x, dims: [1, 2] as never }], [y], false],
    ['not where an output has no rows', [x], [y, { ...y, dims: [] }], false],
    ['not where an output has a fixed number of them', [x], [{ ...y, dims: [3] as never }], false],
    ['not where the rank is not known', [{ ...x, dims: undefined as never }], [y], false],
    ['not where elements share bytes', [{ ...x, type: 'uint4' }], [y], false],
    ['not where those of an output do', [x], [{ ...y, type: 'int4' }], false],
  ])('%s', (_, inputs, outputs, expected) => {
    expect(isBatchable(inputs, outputs)).toBe(expected);
  });
});

describe('what is in one run', () => {
  it('has as many rows in each input; else it runs by itself', () => {
    const signatures = new Signatures([x, { ...x, name: 'z' }]);
    const rowsOf = (rows: number, others: number) =>
      signatures.rowsOf({ x: f32(Array(2 * rows).fill(0), [rows, 2]), z: f32(Array(2 * others).fill(0), [others, 2]) });
    expect([rowsOf(3, 3), rowsOf(3, 2), rowsOf(1, 1)]).toEqual([3, 0, 1]);
  });

  it('has the same dimensions but the first', () => {
    const free = { ...x, dims: ['n', 'w', 'h'] };
    const of = (dims: number[]) => new Signatures([free]).of({ x: f32(Array(dims[0]! * dims[1]! * dims[2]!).fill(0), dims) });
    expect(of([1, 2, 3])).toBe(of([5, 2, 3]));
    expect(new Set([of([1, 2, 3]), of([1, 3, 2]), of([1, 6, 1]), of([1, 1, 6])]).size).toBe(4);
    const fixed = new Signatures([x]);
    expect(fixed.of({ x: f32([1, 2], [1, 2]) })).toBe(fixed.of({ x: f32([1, 2, 3, 4], [2, 2]) }));
    // What the model fixes is not looked at for each prediction.
    expect(fixed.of({ x: f32([1, 2], [1, 2]) })).toBe('');
  });

  it('has the same dimensions in every input', () => {
    const [free, other] = [
      { ...x, dims: ['n', 'w'] },
      { ...x, name: 'z' },
    ];
    const of = (width: number) =>
      new Signatures([other, free]).of({ x: f32(Array(width).fill(0), [1, width]), z: f32([1, 2], [1, 2]) });
    expect(of(2)).not.toBe(of(3));
    expect(of(3)).toBe(of(3));
    const both = new Signatures([free, { ...free, name: 'z' }]);
    const sides = (x: number, z: number) => both.of({ x: f32(Array(x).fill(0), [1, x]), z: f32(Array(z).fill(0), [1, z]) });
    expect(sides(1, 2)).not.toBe(sides(2, 1));
  });

  it('has the types of the predictions, and their bits', () => {
    const all = (tensors: Tensor[]) => {
      const { type, dims, data } = joined(
        [x],
        tensors.map((tensor) => ({ x: tensor })),
      ).x!;
      return [type, [...dims], data];
    };
    const bits = (...halves: number[]) => new Tensor('float16', Uint16Array.from(halves) as never, [halves.length]);
    const [first, second] = [bits(0x3c00, 0x7e01), bits(0xfc00)];
    const [type, dims, data] = all([first, second]);
    expect([type, dims]).toEqual(['float16', [3]]);
    const { buffer, byteOffset, byteLength } = data as Uint16Array;
    expect([...new Uint16Array(buffer, byteOffset, byteLength / 2)]).toEqual([0x3c00, 0x7e01, 0xfc00]);
    expect((data as object).constructor).toBe((first.data as object).constructor);
    const long = (...values: bigint[]) => new Tensor('int64', values, [values.length]);
    expect(all([long(1n, 2n ** 60n), long(-3n)])).toEqual(['int64', [3], BigInt64Array.of(1n, 2n ** 60n, -3n)]);
    const bool = (...values: boolean[]) => new Tensor('bool', values, [values.length]);
    expect(all([bool(true, false), bool(true)])).toEqual(['bool', [3], Uint8Array.of(1, 0, 1)]);
  });

  it('is put together by input, and cut by output', () => {
    const z = { ...x, name: 'z', dims: ['n'] };
    const all = joined(
      [x, z],
      [
        { x: f32([1, 2], [1, 2]), z: f32([7], [1]) },
        { x: f32([3, 4], [1, 2]), z: f32([8], [1]) },
      ],
    );
    expect([all.x!, all.z!].map(({ dims, data }) => [[...dims], [...(data as Float32Array)]])).toEqual([
      [
        [2, 2],
        [1, 2, 3, 4],
      ],
      [[2], [7, 8]],
    ]);
    const parts = split({ x: all.x!, texts: new Tensor('string', ['a', 'b'], [2]) }, [1, 1])!;
    expect(parts.map(({ x, texts }) => [...(x!.data as Float32Array), ...(texts!.data as string[])])).toEqual([
      [1, 2, 'a'],
      [3, 4, 'b'],
    ]);
  });

  it('is put one below the other, and cut again', () => {
    const members = [f32([1, 2], [1, 2]), f32([3, 4, 5, 6], [2, 2]), f32([], [0, 2])];
    const { x: all } = joined(
      [x],
      members.map((member) => ({ x: member })),
    );
    expect([all!.type, [...all!.dims], [...(all!.data as Float32Array)]]).toEqual(['float32', [3, 2], [1, 2, 3, 4, 5, 6]]);
    const parts = split({ y: all! }, [1, 2, 0])!;
    expect(parts.map(({ y }) => [[...y!.dims], [...(y!.data as Float32Array)]])).toEqual([
      [
        [1, 2],
        [1, 2],
      ],
      [
        [2, 2],
        [3, 4, 5, 6],
      ],
      [[0, 2], []],
    ]);
    // Nobody sees the others' rows.
    expect((parts[0]!.y!.data as Float32Array).buffer.byteLength).toBe(8);
  });

  it('may be of texts', () => {
    const texts = [new Tensor('string', ['a', 'b'], [2]), new Tensor('string', ['c'], [1])];
    const all = joined(
      [x],
      texts.map((text) => ({ x: text })),
    ).x!;
    expect([[...all.dims], all.data]).toEqual([[3], ['a', 'b', 'c']]);
  });

  it('is not cut where any output has another number of rows', () => {
    const three = f32([1, 2, 3], [3]);
    expect(split({ y: three }, [1, 2])).not.toBeNull();
    expect(split({ y: three, z: f32([1, 2], [2]) }, [1, 2])).toBeNull();
  });
});

describe('feeds', () => {
  const check =
    (feeds: Record<string, unknown>, dims: typeof x.dims | undefined = x.dims) =>
    () =>
      assertFeeds('m', [{ name: 'x', type: 'float32', dims }], feeds as Record<string, Tensor>);

  it('that fit are taken', () => {
    expect(check({ x: f32([1, 2], [1, 2]) })).not.toThrow();
    expect(check({ x: f32([], [0, 2]) })).not.toThrow();
    expect(() => assertFeeds('m', [{ name: 'x', type: 'float32', dims: undefined }], { x: f32([1], [1, 1, 1]) })).not.toThrow();
  });

  it.each<[Record<string, unknown>, RegExp]>([
    [{}, /input "x".*as a tensor of float32, got nothing/],
    [{ x: null }, /got nothing/],
    [{ x: new Tensor('int32', [1, 2], [1, 2]) }, /as a tensor of float32, got int32/],
    [{ x: f32([1, 2], [2]) }, /with dims \[n,2\], got \[2\]/],
    [{ x: f32([1, 2, 3], [1, 3]) }, /with dims \[n,2\], got \[1,3\]/],
    [{ x: f32([1, 2], [1, 2]), z: f32([1], [1]) }, /"z".*not to be fed \(inputs are x\), got a feed of that name/],
  ])('%# are refused in words', (feeds, message) => {
    expect(check(feeds)).toThrow(message);
  });
});
