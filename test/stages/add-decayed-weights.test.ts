import fc from 'fast-check';
import { addDecayedWeights, clipByGlobalNorm, clipByValue, GradientBatch, gradientBatch, Parameters } from 'rxgrad';
import { lastValueFrom, map, of } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { bitsOf, element, elements, through, wave } from './gradients.ts';

const decay = fc.double({ min: 1e-6, max: 10, noNaN: true });

function parametersOf(data: Float32Array): Parameters {
  return Parameters.create({ w: { dims: [data.length], data } });
}

describe('addDecayedWeights', () => {
  it('is g + decay · θ, each operation rounded to float32', async () => {
    const pairs = fc.array(fc.tuple(element, element), { minLength: 1, maxLength: 9 });
    await fc.assert(
      fc.asyncProperty(pairs, decay, async (values, rate) => {
        const gradients = Float32Array.from(values, ([gradient]) => gradient);
        const weights = Float32Array.from(values, ([, weight]) => weight);
        const expected = gradients.map((value, i) => value + Math.fround(Math.fround(rate) * weights[i]!));
        expect(bitsOf(await through(gradients, addDecayedWeights(rate, parametersOf(weights))))).toEqual(bitsOf(expected));
      }),
    );
  });

  it('changes no bit where decay is 0', async () => {
    await fc.assert(
      fc.asyncProperty(elements, async (gradients) => {
        const params = parametersOf(wave(gradients.length));
        expect(bitsOf(await through(gradients, addDecayedWeights(0, params)))).toEqual(bitsOf(gradients));
      }),
    );
  });

  it.each([1, 3, 5, 16_383, 16_385, 40_000])('decays each of %i elements', async (size) => {
    const decayed = await through(wave(size), addDecayedWeights(0.5, parametersOf(wave(size, 1))));
    const weights = wave(size, 1);
    expect(decayed).toEqual(wave(size).map((value, i) => value + Math.fround(0.5 * weights[i]!)));
  });

  it('gives every parameter its own weights', async () => {
    const params = Parameters.create({ a: { dims: [2], data: [1, 2] }, b: { dims: [3], data: [3, 4, 5] } });
    const batch = gradientBatch({ gradients: { b: new Float32Array(3), a: new Float32Array(2) } });
    const decayed = await lastValueFrom(of(batch).pipe(addDecayedWeights(1, params)));
    expect(decayed).toMatchObject({ gradients: { a: Float32Array.of(1, 2), b: Float32Array.of(3, 4, 5) } });
  });

  it('cannot be read without the weights', async () => {
    await expect(through(Float32Array.of(1), addDecayedWeights(1e-4))).rejects.toMatchObject({
      code: 'RXGRAD_WEIGHTS_NEEDED',
      message: expect.stringContaining('addDecayedWeights(0.0001, params)'),
    });
  });

  it('cannot be read without the weights behind other stages either', async () => {
    const read$ = of(gradientBatch({ gradients: { w: Float32Array.of(1) } })).pipe(
      clipByGlobalNorm(1),
      addDecayedWeights(1e-4),
      clipByValue(1),
      map((event) => (event instanceof GradientBatch ? event.gradients : event)),
    );
    await expect(lastValueFrom(read$)).rejects.toMatchObject({ code: 'RXGRAD_WEIGHTS_NEEDED' });
  });

  it.each([
    ['does not know', 'other', 1],
    ['has in another length', 'w', 3],
  ])('leaves a tensor that the model %s to the scan, which rejects it', async (_, name, size) => {
    const params = parametersOf(wave(40_000));
    const batch = gradientBatch({ gradients: { [name]: wave(size) } });
    const event = await lastValueFrom(of(batch).pipe(addDecayedWeights(0.1, params)));
    expect(event).toMatchObject({ gradients: { [name]: wave(size) } });
  });
});
