import { readFileSync } from 'node:fs';
import { Tensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { dataTypes } from '../../../src/inference/onnx/data-types.ts';
import { readModel } from '../../../src/inference/onnx/model.ts';
import { trainableInitializers } from '../../../src/inference/onnx/trainable-initializers.ts';
import { withInitializers } from '../../../src/inference/onnx/with-initializers.ts';
import { withWeightsAsInputs } from '../../../src/inference/onnx/with-weights-as-inputs.ts';
import { buildModel, floats, integers, node, tensor, value } from './build-model.ts';
import { example, exampleNames, expectClose, feedsOf, run, sgd } from './example-models.ts';

describe.each(exampleNames)('%s', (name) => {
  const data = example(name);
  const model = readModel(data.path);
  const weights = trainableInitializers(model);

  it('with its own weights is the same file', () => {
    const own = Object.fromEntries(weights.map(({ name, data }) => [name, data]));
    expect(Buffer.compare(withInitializers(model, own), readFileSync(data.path))).toBe(0);
  });

  it('with stepped weights agrees with torch, and with the same weights fed', async (t) => {
    const stepped = Object.fromEntries(
      weights.map(({ name, data: weight }) => [name, sgd(weight, data.gradients[name]!.data, 0.1)]),
    );
    const got = await run(t, withInitializers(model, stepped), feedsOf(data));
    expectClose(got, data.outputAfterSgdStep.data);

    const { bytes, inputs } = withWeightsAsInputs(model, Object.keys(stepped));
    const fed = inputs.map((name) => [name, new Tensor('float32', stepped[name]!, data.gradients[name]!.dims)]);
    expectClose(got, await run(t, bytes, { ...feedsOf(data), ...Object.fromEntries(fed) }), 1e-6, 0);
  });
});

describe('values', () => {
  const other = [
    tensor({ name: 'w', dataType: dataTypes.float32, dims: [2n], floatData: [1, 2] }),
    tensor({
      ...{ name: 'e', dataType: dataTypes.float32, dims: [2n], dataLocation: 1 },
      externalData: [{ key: 'location', value: 'weights.bin' }],
    }),
  ];
  const sum = [node('Sum', ['x', 'w', 'e'], ['y'])];
  const model = readModel(
    buildModel({
      input: [value('x', [2])],
      output: [value('y', [2])],
      node: sum,
      initializer: [...other, floats('k', [1], [9])],
    }),
  );

  it('replace float_data and external data, from shared memory too', async (t) => {
    const w = new Float32Array(new SharedArrayBuffer(16), 4, 2);
    w.set([5, 6]);
    const bytes = withInitializers(model, { w, e: Float32Array.of(100, 200) });
    const x = new Tensor('float32', Float32Array.of(10, 20), [2]);
    expect(await run(t, bytes, { x })).toEqual([115, 226]);
    expect(trainableInitializers(readModel(bytes), ['k'])[0]!.data).toEqual(Float32Array.of(9));
  });

  it('leave the model they came from alone', () => {
    withInitializers(model, { w: Float32Array.of(5, 6) });
    expect(trainableInitializers(model, ['w'])[0]!.data).toEqual(Float32Array.of(1, 2));
  });
});

it('refuses what does not fit', () => {
  const initializer = [floats('w', [2], [1, 2]), integers('i', [1])];
  const model = readModel(buildModel({ output: [value('w')], initializer }));
  const differ = (text: string) =>
    expect.objectContaining({ code: 'RXGRAD_PARAMETERS_DIFFER', message: expect.stringContaining(text) });
  expect(() => withInitializers(model, { v: new Float32Array(2) })).toThrow(differ('no initializer "v"'));
  expect(() => withInitializers(model, { w: new Float32Array(3) })).toThrow(differ('"w" takes 2 values'));
  expect(() => withInitializers(model, { i: new Float32Array(1) })).toThrow(differ('"i" takes int64'));
});
