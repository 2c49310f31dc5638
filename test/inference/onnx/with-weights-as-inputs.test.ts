import { Tensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { dataTypes } from '../../../src/inference/onnx/data-types.ts';
import { modelBytes, modelInputs, readModel } from '../../../src/inference/onnx/model.ts';
import { trainableInitializers } from '../../../src/inference/onnx/trainable-initializers.ts';
import { withWeightsAsInputs } from '../../../src/inference/onnx/with-weights-as-inputs.ts';
import { buildModel, floats, graph, integers, node, value } from './build-model.ts';
import { example, exampleNames, expectClose, feedsOf, openSession, run, sgd } from './example-models.ts';

const float32 = (dims: number[], ...data: number[]) => new Tensor('float32', Float32Array.from(data), dims);

describe.each(exampleNames)('%s', (name) => {
  const data = example(name);
  const model = readModel(data.path);
  const weights = trainableInitializers(model);
  const surgery = withWeightsAsInputs(
    model,
    weights.map((weight) => weight.name),
  );

  it('gives the same output when fed its own weights', async (t) => {
    const fed = Object.fromEntries(weights.map(({ name, dims, data }) => [name, new Tensor('float32', data, dims)]));
    expectClose(await run(t, surgery.bytes, { ...feedsOf(data), ...fed }), data.output.data);
  });

  it('gives the output after a step of SGD when fed the stepped weights', async (t) => {
    const fed = weights.map(({ name, dims, data: weight }) => {
      return [name, new Tensor('float32', sgd(weight, data.gradients[name]!.data, 0.1), dims)] as const;
    });
    const got = await run(t, surgery.bytes, { ...feedsOf(data), ...Object.fromEntries(fed) });
    expectClose(got, data.outputAfterSgdStep.data);
  });

  it('requires the weights as its last inputs', async (t) => {
    const session = await openSession(t, surgery.bytes);
    const ordinary = modelInputs(model).map((input) => input.name);
    expect(session.inputNames).toEqual([...ordinary, ...weights.map((weight) => weight.name)]);
    await expect(session.run(feedsOf(data))).rejects.toThrow(weights[0]!.name);
  });

  it('leaves everything else as it was', () => {
    const after = readModel(surgery.bytes);
    expect(after.graph.node).toEqual(model.graph.node);
    expect(after.graph.valueInfo).toEqual(model.graph.valueInfo);
    expect(after.graph.initializer).toEqual(model.graph.initializer.filter(({ name }) => !surgery.inputs.includes(name)));
    const { initializer, input } = model.graph;
    Object.assign(after.graph, { initializer, input });
    expect(Buffer.compare(modelBytes(after.proto), modelBytes(model.proto))).toBe(0);
  });
});

it('sees weights change in shared WebAssembly memory, without another feed', async (t) => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const weight = new Float32Array(memory.buffer, 64, 2).fill(1);
  const model = readModel(addition());
  const session = await openSession(t, withWeightsAsInputs(model, ['w']).bytes);
  const feeds = { x: float32([2], 10, 20), w: new Tensor('float32', weight, [2]) };
  expect((await session.run(feeds)).y!.data).toEqual(Float32Array.of(11, 21));
  weight.set([5, 6]);
  expect((await session.run(feeds)).y!.data).toEqual(Float32Array.of(15, 26));
});

for (const irVersion of [3, 4, 10]) {
  it(`an initializer that is listed as an input is listed once (IR version ${irVersion})`, async (t) => {
    const input = [value('w', [2]), value('x', [2]), value('v', [2])];
    const initializer = [floats('w', [2], [1, 2]), floats('v', [2], [100, 200])];
    const sum = [node('Sum', ['x', 'w', 'v'], ['y'])];
    const model = readModel(addition({ input, initializer, node: sum }, { irVersion, opset: 8 }));
    const { bytes } = withWeightsAsInputs(model, ['w']);
    expect(readModel(bytes).graph.input.map(({ name }) => name)).toEqual(['x', 'v', 'w']);
    const session = await openSession(t, bytes);
    expect(session.inputNames).toEqual(['x', 'w']);
    const outputs = await session.run({ x: float32([2], 10, 20), w: float32([2], 5, 6) });
    expect(outputs.y!.data).toEqual(Float32Array.of(115, 226));
  });
}

describe('control flow', () => {
  it('finds the outer weight by its name', async (t) => {
    const branch = (op: string) => graph({ node: [node(op, ['x', 'w'], ['r'])], output: [value('r')] });
    const branches = [
      { name: 'then_branch', g: branch('Add'), type: 5 },
      { name: 'else_branch', g: branch('Sub'), type: 5 },
    ];
    const bytes = buildModel({
      input: [value('condition', [], dataTypes.bool), value('x', [2])],
      output: [value('y', [2])],
      node: [node('If', ['condition'], ['y'], branches)],
      initializer: [floats('w', [2], [1, 2])],
    });
    const session = await openSession(t, withWeightsAsInputs(readModel(bytes), ['w']).bytes);
    const feeds = { x: float32([2], 10, 20), w: float32([2], 5, 6) };
    const output = async (condition: boolean) =>
      (await session.run({ ...feeds, condition: new Tensor('bool', [condition], []) })).y!.data;
    expect(await output(true)).toEqual(Float32Array.of(15, 26));
    expect(await output(false)).toEqual(Float32Array.of(5, 14));
  });
});

it('a weight that the graph returns is passed through', async (t) => {
  const bytes = addition({ output: [value('y', [2]), value('w', [2])] });
  const session = await openSession(t, withWeightsAsInputs(readModel(bytes), ['w']).bytes);
  const outputs = await session.run({ x: float32([2], 1, 1), w: float32([2], 5, 6) });
  expect(outputs.w!.data).toEqual(Float32Array.of(5, 6));
});

it('scalars and weights without values become inputs too', async (t) => {
  const initializer = [floats('s', [], [2]), floats('none', [0], [])];
  const add = [node('Add', ['x', 's'], ['a']), node('Concat', ['a', 'none'], ['y'], [{ name: 'axis', i: 0n, type: 2 }])];
  const bytes = addition({ initializer, node: add });
  const session = await openSession(t, withWeightsAsInputs(readModel(bytes), ['s', 'none', 's']).bytes);
  expect(session.inputNames).toEqual(['x', 's', 'none']);
  const outputs = await session.run({ x: float32([2], 1, 2), s: float32([], 7), none: float32([0]) });
  expect(outputs.y!.data).toEqual(Float32Array.of(8, 9));
});

it('refuses what is no floating-point initializer', () => {
  const model = readModel(addition({ initializer: [integers('i', [1])] }));
  expect(() => withWeightsAsInputs(model, ['x'])).toThrow('names of its floating-point initializers, got "x"');
  expect(() => withWeightsAsInputs(model, ['i'])).toThrow('got "i"');
});

/** y = x + w, unless told otherwise. */
function addition(changes: Parameters<typeof buildModel>[0] = {}, versions: Parameters<typeof buildModel>[1] = {}): Uint8Array {
  const plain = {
    input: [value('x', [2])],
    output: [value('y', [2])],
    node: [node('Add', ['x', 'w'], ['y'])],
    initializer: [floats('w', [2], [1, 2])],
  };
  return buildModel({ ...plain, ...changes }, versions);
}
