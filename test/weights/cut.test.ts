import { describe, expect, it } from 'vitest';
import { cut, namesIn, touchedBytes, widthOf } from '../../src/weights/cut.ts';

const place = (name: string, dims: number[], offset = 0) => ({
  name,
  dims,
  offset,
  length: dims.reduce((size, dim) => size * dim, 1),
});
/** Bytes that are left for what else a part says of a parameter. */
const around = 512;
const entry = (name: string, rank: number) => 2 * (Buffer.byteLength(JSON.stringify(name)) + 100 + 16 * rank);
const all = (...indices: number[]) => new Map(indices.map((index) => [index, null]));
const shown = (parts: ReturnType<typeof cut>) =>
  parts.map((pieces) => pieces.map(({ place: { name }, from, length, rows }) => [name, from, length, rows && [...rows]]));

describe('weights that are cut', () => {
  it('are one part where they fit, and two where a byte is missing', () => {
    const places = [place('a', [10]), place('b', [5, 4])];
    const bytes = around + 40 + entry('a', 1) + 80 + entry('b', 2);
    const whole = [
      [
        ['a', 0, 10, null],
        ['b', 0, 20, null],
      ],
    ];
    expect(shown(cut(places, all(0, 1), 'F32', bytes))).toEqual(whole);
    expect(shown(cut(places, all(0, 1), 'F32', bytes - 1))).toEqual([
      [
        ['a', 0, 10, null],
        ['b', 0, 19, null],
      ],
      [['b', 19, 1, null]],
    ]);
    expect(shown(cut(places, all(0, 1), 'F16', bytes - 60))).toEqual(whole);
  });

  it('are ranges where a parameter is larger than a part, without a gap', () => {
    const places = [place('w', [1000])];
    const maxBytes = around + entry('w', 1) + 400;
    const parts = cut(places, all(0), 'F32', maxBytes);
    expect(parts.flat().map(({ from, length }) => [from, length])).toEqual(Array.from({ length: 10 }, (_, i) => [100 * i, 100]));
    expect([parts.length, cut(places, all(0), 'BF16', maxBytes).length]).toEqual([10, 5]);
  });

  it('are the rows that were touched, as many as fit in each part', () => {
    const places = [place('t', [100, 4])];
    const rows = Int32Array.from({ length: 25 }, (_, i) => 3 * i);
    const maxBytes = around + entry('t', 2) + 10 * 20;
    const parts = cut(places, new Map([[0, rows]]), 'F32', maxBytes);
    expect(parts.map((pieces) => pieces.flatMap(({ rows, length, from }) => [rows!.length, length, from]))).toEqual([
      [10, 40, 0],
      [10, 40, 0],
      [5, 20, 0],
    ]);
    expect(parts.flat().flatMap(({ rows }) => [...rows!])).toEqual([...rows]);
  });

  it('are ranges of single rows where a row is larger than half a part', () => {
    const places = [place('t', [10, 100])];
    const maxBytes = 2 * 404 + around + entry('t', 2);
    const touched = new Map([[0, Int32Array.of(2, 7)]]);
    expect(shown(cut(places, touched, 'F32', maxBytes))).toEqual([[['t', 0, 200, [2, 7]]]]);
    expect(shown(cut(places, touched, 'F32', maxBytes - 1))).toEqual([[['t', 200, 100, null]], [['t', 700, 100, null]]]);
  });

  it('have each name once in a part, also those of rows beside a parameter that is called so', () => {
    const places = [place('emb', [50, 2]), place('emb.values', [3]), place('emb.indices', [3])];
    const touched = new Map<number, Int32Array | null>([
      [0, Int32Array.of(1)],
      [1, null],
      [2, null],
    ]);
    const parts = cut(places, touched, 'F32', 1 << 20);
    expect(shown(parts)).toEqual([
      [['emb', 0, 2, [1]]],
      [
        ['emb.values', 0, 3, null],
        ['emb.indices', 0, 3, null],
      ],
    ]);
    for (const pieces of parts) {
      const names = pieces.flatMap(namesIn);
      expect(new Set(names).size).toBe(names.length);
    }
  });

  it('have every parameter in a part, also one of no elements, and are one part where there is nothing', () => {
    const places = [place('a', [0, 3]), place('b', [])];
    expect(shown(cut(places, all(0, 1), 'F32', 4096))).toEqual([
      [
        ['a', 0, 0, null],
        ['b', 0, 1, null],
      ],
    ]);
    expect(shown(cut(places, new Map([[0, Int32Array.of()]]), 'F32', 4096))).toEqual([[['a', 0, 0, []]]]);
    expect(cut(places, new Map(), 'F32', 4096)).toEqual([[]]);
  });

  it('take an element at least of each part, however small that is', () => {
    expect(shown(cut([place('w', [3])], all(0), 'F32', 1))).toEqual([
      [['w', 0, 1, null]],
      [['w', 1, 1, null]],
      [['w', 2, 1, null]],
    ]);
  });
});

it('what was touched has bytes, of rows with their numbers', () => {
  const places = [place('t', [10, 4]), place('b', [5]), place('s', [])];
  const touched = new Map([
    [0, Int32Array.of(1, 2, 3)],
    [1, null],
  ]);
  expect(touchedBytes(places, touched, 'F32')).toBe(3 * (4 + 16) + 20);
  expect(touchedBytes(places, touched, 'F16')).toBe(3 * (4 + 8) + 10);
  expect(touchedBytes(places, all(0, 1, 2), 'F32')).toBe(160 + 20 + 4);
  expect(touchedBytes(places, new Map(), 'F32')).toBe(0);
  expect([widthOf(places[0]!), widthOf(places[2]!), widthOf({ dims: [0, 3], length: 0 })]).toEqual([4, 0, 0]);
});
