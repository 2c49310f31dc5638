import { describe, expect, it } from 'vitest';
import { lossGradients } from '../../src/autodiff/loss-gradients.ts';
import { exampleLosses } from '../../src/gates/example-losses.ts';

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b) / values.length;

describe('losses of single examples', () => {
  it('have the mean that training minimises: binary cross-entropy', () => {
    const data = [-2, 0.5, 3, 100, -100, 0];
    const labels = [0, 1, 1, 1, 1, 0.25];
    for (const dims of [[6], [6, 1], [2, 3]]) {
      const losses = exampleLosses('bceWithLogits', { data, dims }, labels, 'm');
      expect(losses).toHaveLength(dims[0]!);
      expect(Math.fround(mean(losses))).toBe(lossGradients.bceWithLogits(Float32Array.from(data), labels, 1));
    }
    expect(exampleLosses('bceWithLogits', { data: [0], dims: [] }, [1], 'm')).toEqual([Math.LN2]);
  });

  it('have the mean that training minimises: cross-entropy', () => {
    const data = Float32Array.of(1, 2, 3, 1000, -1000, 0);
    const labels = [2n, 2n];
    const losses = exampleLosses('crossEntropy', { data: data.slice(), dims: [2, 3] }, labels, 'm');
    expect(losses[1]).toBe(1000);
    expect(Math.fround(mean(losses))).toBe(lossGradients.crossEntropy(data, labels, 3));
  });

  it.each([
    ['bceWithLogits', [1], 'with a label', /2 labels, one for each logit, got 1/],
    ['crossEntropy', [0, 1], 'of which there are as many', /1 labels, one for each example, got 2/],
    ['crossEntropy', [2], 'that are classes', /classes from 0 to 1, got 2/],
  ] as const)('%s needs labels %s', (loss, labels, _, message) => {
    expect(() => exampleLosses(loss, { data: [1, 2], dims: [1, 2] }, labels, 'm')).toThrow(message);
  });
});
