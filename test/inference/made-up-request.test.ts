import { Tensor } from 'onnxruntime-node';
import { expect, it } from 'vitest';
import { madeUpRequest } from '../../src/inference/made-up-request.ts';
import { buildModel, floats, node, value } from './onnx/build-model.ts';
import { example, exampleNames } from './onnx/example-models.ts';
import { load, lookUp, openShapes, rows, rowWise } from './pool-models.ts';

it.for(exampleNames)('warms %s up', async (name, t) => {
  const session = await load(t, example(name).path, { maxBatch: 8 });
  expect(session.ready).toBe(false);
  await session.warmUp();
  expect(session.ready).toBe(true);
});

it.for([openShapes, lookUp])('warms up a model of texts, and one that looks places up', async (onnx, t) => {
  const session = await load(t, onnx, { workers: 2, maxBatch: 4 });
  await session.warmUp();
  expect(session.ready).toBe(true);
});

it('has rows where the first dimension is open', () => {
  const inputs = [
    { name: 'x', type: 'float32', dims: ['batch', 'length', 3] },
    { name: 'y', type: 'bool', dims: [2, 'length'] },
    { name: 'z', type: 'int8', dims: [] },
  ];
  const { x, y, z } = madeUpRequest('m', inputs, 7);
  expect(x!.dims).toEqual([7, 1, 3]);
  expect(new Set(x!.data as Float32Array)).toEqual(new Set([0.5]));
  expect(y!.dims).toEqual([2, 1]);
  expect(z!.data).toEqual(new Int8Array(1));
});

it('takes requests that were recorded', async (t) => {
  const session = await load(t, rowWise);
  await session.warmUp([rows(1), rows(3)], { runs: 1 });
  expect(session.ready).toBe(true);
  const wrong = { x: new Tensor('float32', new Float32Array(4), [1, 4]) };
  await expect(session.warmUp([wrong])).rejects.toMatchObject({ code: 'RXGRAD_INVALID_FEED' });
});

it('is not made up where the model does not say its rank', async (t) => {
  const unranked = buildModel({
    node: [node('Add', ['x', 'w'], ['y'])],
    initializer: [floats('w', [1], [1])],
    input: [value('x')],
    output: [value('y')],
  });
  const session = await load(t, unranked, { maxBatch: 4 });
  await expect(session.warmUp()).rejects.toThrow(/input "x", whose rank.*Give warmUp requests of your own/);
  expect(session.ready).toBe(false);
});
