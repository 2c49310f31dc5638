import { describe, expect, it } from 'vitest';
import { median, pairedRatio, spread } from '../../bench/statistics.ts';

describe('statistics', () => {
  it('takes the middle of an odd number of values, and between the middle two of an even number', () => {
    expect(median([9, 1, 5])).toBe(5);
    expect(median([9, 1, 5, 6])).toBe(5.5);
    expect(median([4])).toBe(4);
  });

  it('spreads by half of what lies between the quartiles, which outliers leave alone', () => {
    expect(spread([1, 2, 3, 4, 5])).toBe(1);
    expect(spread([1, 2, 3, 4, 500])).toBe(1);
    expect(spread([0, 10])).toBe(2.5);
    expect(spread([7, 7, 7])).toBe(0);
  });

  it('compares within rounds', () => {
    expect(pairedRatio([2, 20, 300], [1, 10, 100])).toBe(2);
  });
});
