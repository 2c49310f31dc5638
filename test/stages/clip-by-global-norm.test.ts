import fc from 'fast-check';
import { clipByGlobalNorm, gradientBatch } from 'rxgrad';
import { firstValueFrom, of, pipe } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { bitsOf, elements, normOf, through, wave } from './gradients.ts';

const limit = fc.double({ min: 1e-3, max: 1e6, noNaN: true });

describe('clipByGlobalNorm', () => {
  it('leaves a norm at the limit, to rounding, where it was above', async () => {
    await fc.assert(
      fc.asyncProperty(elements, limit, async (gradients, maxNorm) => {
        fc.pre(normOf(gradients) >= maxNorm);
        const norm = normOf(await through(gradients, clipByGlobalNorm(maxNorm)));
        expect(Math.abs(norm - maxNorm) / maxNorm).toBeLessThan(3e-7);
      }),
    );
  });

  it('changes no bit below the limit', async () => {
    await fc.assert(
      fc.asyncProperty(elements, limit, async (gradients, maxNorm) => {
        fc.pre(normOf(gradients) < maxNorm);
        expect(bitsOf(await through(gradients, clipByGlobalNorm(maxNorm)))).toEqual(bitsOf(gradients));
      }),
    );
  });

  it('clips once as it clips twice, to rounding', async () => {
    await fc.assert(
      fc.asyncProperty(elements, limit, async (gradients, maxNorm) => {
        const once = await through(gradients, clipByGlobalNorm(maxNorm));
        const twice = await through(gradients, pipe(clipByGlobalNorm(maxNorm), clipByGlobalNorm(maxNorm)));
        for (const [i, value] of once.entries()) expect(Math.abs(twice[i]! - value)).toBeLessThanOrEqual(3e-7 * Math.abs(value));
      }),
    );
  });

  it('multiplies by maxNorm / norm in float32', async () => {
    const gradients = Float32Array.of(3, -4, 0.1, -0);
    const factor = Math.fround(1 / normOf(gradients));
    expect(await through(gradients, clipByGlobalNorm(1))).toEqual(gradients.map((value) => Math.fround(value * factor)));
  });

  it.each([1, 3, 5, 16_383, 16_384, 16_385, 40_000])('squares %i elements without leaving one out', async (size) => {
    const gradients = wave(size);
    const clipped = normOf(await through(gradients, clipByGlobalNorm(1e-3)));
    expect(Math.abs(clipped - 1e-3) / 1e-3).toBeLessThan(1e-6);
  });

  it('takes the norm over all tensors of a batch', async () => {
    const batch = gradientBatch({ gradients: { a: Float32Array.of(3), b: Float32Array.of(0, 4) } });
    const clipped = await firstValueFrom(of(batch).pipe(clipByGlobalNorm(2.5)));
    expect(clipped).toMatchObject({ gradients: { a: Float32Array.of(1.5), b: Float32Array.of(0, 2) } });
  });

  it('leaves zeros as they are', async () => {
    expect(bitsOf(await through(Float32Array.of(0, -0), clipByGlobalNorm(1)))).toEqual(bitsOf(Float32Array.of(0, -0)));
  });
});
