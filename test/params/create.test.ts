import { Parameters } from 'rxgrad';
import { expect, it } from 'vitest';
import { layOut } from '../../src/params/layout.ts';

it('parameters lie one after the other, each at the begin of a cache line', () => {
  const { places, byteLength } = layOut({
    a: { dims: [2, 3] },
    b: { dims: [] },
    c: { dims: [16] },
    d: { dims: [17] },
    e: { dims: [0, 5] },
  });
  expect(places).toEqual([
    { name: 'a', dims: [2, 3], offset: 0, length: 6 },
    { name: 'b', dims: [], offset: 64, length: 1 },
    { name: 'c', dims: [16], offset: 128, length: 16 },
    { name: 'd', dims: [17], offset: 192, length: 17 },
    { name: 'e', dims: [0, 5], offset: 320, length: 0 },
  ]);
  expect(byteLength).toBe(320);
});

it('they begin with what is given, or zeros', () => {
  const params = Parameters.create({
    a: { dims: [2], data: [1, 2] },
    b: { dims: [2] },
    c: { dims: [1], data: new Float64Array([3]) },
  });
  expect([...params].map(({ data }) => [...data])).toEqual([[1, 2], [0, 0], [3]]);
});

it.each<[object, RegExp]>([
  [{ dims: [2], data: [1, 2, 3] }, /a\.data: expected 2 values for dims \[2\], got 3 values/],
  [{ dims: [2], data: [1] }, /got 1 values/],
  [{ dims: [-1] }, /a\.dims\.0: expected >=0, got -1/],
  [{ dims: [1.5] }, /a\.dims\.0: expected a whole number, got 1\.5/],
  [{ dims: [1], data: new DataView(new ArrayBuffer(4)) }, /a\.data: expected an array of numbers/],
  [{ dims: [1], data: '1' }, /a\.data: expected an array of numbers/],
  [{ dims: [1], values: [1] }, /a\.values: expected no such option/],
])('%j is refused', (spec, message) => {
  expect(() => Parameters.create({ a: spec as { dims: number[] } })).toThrow(message);
});

it('a name that begins as those of state files do is refused, and one that ends so is not', () => {
  expect(() => Parameters.create({ 'rxgrad.w': { dims: [1] } })).toThrow(/a name that does not begin with "rxgrad\."/);
  expect(Parameters.create({ 'w.rxgrad.': { dims: [1] } }).names).toEqual(['w.rxgrad.']);
});
