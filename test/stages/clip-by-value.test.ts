import fc from 'fast-check';
import { clipByValue } from 'rxgrad';
import { pipe } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { bitsOf, elements, through, wave } from './gradients.ts';

const limit = fc.double({ min: 1e-3, max: 1e6, noNaN: true });

describe('clipByValue', () => {
  it('keeps what lies between the limits, bit for bit, and moves the rest onto them', async () => {
    await fc.assert(
      fc.asyncProperty(elements, limit, async (gradients, bound) => {
        const high = Math.fround(bound);
        const expected = gradients.map((value) => Math.min(Math.max(value, -high), high));
        expect(bitsOf(await through(gradients, clipByValue(bound)))).toEqual(bitsOf(expected));
      }),
    );
  });

  it('clips twice as the narrower limit alone', async () => {
    await fc.assert(
      fc.asyncProperty(elements, limit, limit, async (gradients, first, second) => {
        const twice = await through(gradients, pipe(clipByValue(first), clipByValue(second)));
        expect(bitsOf(twice)).toEqual(bitsOf(await through(gradients, clipByValue(Math.min(first, second)))));
      }),
    );
  });

  it.each([1, 3, 5, 16_383, 16_385, 40_000])('reaches each of %i elements', async (size) => {
    const clipped = await through(wave(size), clipByValue(0.25));
    expect(clipped).toEqual(wave(size).map((value) => Math.min(Math.max(value, -0.25), 0.25)));
  });
});
