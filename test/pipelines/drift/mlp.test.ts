import { InferenceSession, Tensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { mlpPlan } from '../../../src/autodiff/mlp-plan.ts';
import { readModel } from '../../../src/inference/onnx/model.ts';

const path = new URL('../../../pipelines/drift/mlp.onnx', import.meta.url).pathname;

describe('mlp.onnx of the drift pipeline', () => {
  it('is a perceptron 3 → 16 → 1 that gradients exist for', () => {
    const { input, layers } = mlpPlan(readModel(path));
    expect(input).toBe('x');
    expect(layers.map(({ inputs, outputs, relu }) => [inputs, outputs, relu])).toEqual([
      [3, 16, true],
      [16, 1, false],
    ]);
  });

  it.each([1, 32])('gives a logit for each of %i events', async (events) => {
    const session = await InferenceSession.create(path);
    const { logit } = await session.run({ x: new Tensor('float32', new Float32Array(events * 3).fill(0.5), [events, 3]) });
    expect(logit!.dims).toEqual([events, 1]);
    expect(new Set(logit!.data as Float32Array).size).toBe(1);
    await session.release();
  });
});
