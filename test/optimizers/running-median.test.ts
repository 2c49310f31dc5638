import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RunningMedian } from '../../src/optimizers/running-median.ts';

const middle = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
};
// Without −0, which no logarithm of a norm is, nor anything in JSON.
const double = fc.double({ min: -9, max: 9, noNaN: true }).map((value) => value + 0);
const numbers = fc.array(fc.oneof(double, fc.constantFrom(0, 1, 1, 2)), {
  minLength: 1,
  maxLength: 60,
});

describe('a running median', () => {
  it('is that of the last numbers, and so is the deviation, at every point', () => {
    fc.assert(
      fc.property(numbers, fc.integer({ min: 1, max: 20 }), (values, size) => {
        const running = new RunningMedian(size);
        for (const [i, value] of values.entries()) {
          running.add(value);
          const last = values.slice(Math.max(0, i + 1 - size), i + 1);
          expect(running.count).toBe(last.length);
          expect(running.median).toBe(middle(last));
          expect(running.deviation(running.median)).toBe(middle(last.map((one) => Math.abs(one - middle(last)))));
        }
      }),
    );
  });

  it('goes on from its state as it would have, also in another size', () => {
    fc.assert(
      fc.property(
        numbers,
        numbers,
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 1, max: 20 }),
        (before, after, size, other) => {
          const [whole, first, second] = [new RunningMedian(other), new RunningMedian(size), new RunningMedian(other)];
          for (const value of before) first.add(value);
          second.restore(JSON.parse(JSON.stringify(first.state())) as number[]);
          for (const value of before.slice(-size)) whole.add(value);
          for (const value of after) {
            whole.add(value);
            second.add(value);
          }
          expect([second.median, second.deviation(0), second.state()]).toEqual([whole.median, whole.deviation(0), whole.state()]);
        },
      ),
    );
  });
});
