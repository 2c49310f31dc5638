import { describe, expect, it } from 'vitest';
import {
  requireKeys,
  requireOffset,
  requirePartition,
  requirePartitionCount,
  requirePartitions,
  startingOffsets,
} from '../../src/sources/topic-bounds.ts';

const bounds = [
  { first: 0, end: 5 },
  { first: 3, end: 9 },
];

describe('where a consumption begins', () => {
  it.each<[string, Parameters<typeof startingOffsets>[2], [number, number][], number[]]>([
    ['at the oldest record', 'beginning', [[0, 2]], [0, 3]],
    ['at the end', 'end', [[0, 2]], [5, 9]],
    ['where its group has got to, else at the oldest', undefined, [[0, 2]], [2, 3]],
    ['at the oldest, where what its group had read next is gone', undefined, [[1, 1]], [0, 3]],
    ['where it is told to, elsewhere at the oldest', new Map([[1, 7]]), [[0, 2]], [0, 7]],
  ])('is %s', (_, from, acknowledged, expected) => {
    expect(startingOffsets('t', bounds, from, new Map(acknowledged))).toEqual(expected);
  });

  it('has to be a partition and an offset that are there', () => {
    expect(() => startingOffsets('t', bounds, new Map([[2, 0]]), new Map())).toThrow(
      /expected 0 to 1, the partitions of "t", got 2/,
    );
    expect(() => startingOffsets('t', bounds, new Map([[1, 2]]), new Map())).toThrow(/t\/1/);
  });
});

describe('an offset to go on at', () => {
  it.each([3, 5, 9])('%d is one of a record, or the end', (offset) => {
    expect(requireOffset('t', 1, bounds[1]!, offset)).toBe(offset);
  });

  it.each([2, 10, 3.5, Number.NaN])('%d is none', (offset) => {
    expect(() => requireOffset('t', 1, bounds[1]!, offset)).toThrow(
      expect.objectContaining({ code: 'RXGRAD_OFFSET_OUT_OF_RANGE', message: expect.stringMatching(/t\/1.*3.*9/) }),
    );
  });
});

describe('a partition', () => {
  it('is one that the topic has', () => {
    for (const partition of [0, 1]) expect(() => requirePartition('t', 2, partition)).not.toThrow();
    for (const partition of [-1, 2, 0.5]) expect(() => requirePartition('t', 2, partition)).toThrow(`got ${partition}`);
    expect(() => requirePartition('t', 1, 1)).toThrow('expected 0, the only partition of "t", got 1');
  });

  it('of records need not be said', () => {
    const value = null;
    expect(() => requirePartitions('t', 2, [{ value }, { value, partition: 1 }])).not.toThrow();
    expect(() => requirePartitions('t', 2, [{ value }, { value, partition: 2 }])).toThrow('got 2');
  });

  it('is one of at least one, and not too many', () => {
    for (const count of [1, 8]) expect(requirePartitionCount(count, 8)).toBe(count);
    for (const count of [0, 9, 1.5])
      expect(() => requirePartitionCount(count, 8)).toThrow(`an integer from 1 to 8, got ${count}`);
  });
});

it('records of a compacted topic have keys, which may be empty', () => {
  const value = null;
  expect(() =>
    requireKeys('t', [
      { value, key: 'a' },
      { value, key: '' },
      { value, key: new Uint8Array() },
    ]),
  ).not.toThrow();
  for (const key of [undefined, null]) {
    expect(() =>
      requireKeys('t', [
        { value, key: 'a' },
        { value, ...(key === null ? { key } : {}) },
      ]),
    ).toThrow('expected one, since "t" is compacted, got none');
  }
});
