import { readFileSync } from 'node:fs';
import { toBinary } from '@bufbuild/protobuf';
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { Tensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { dataTypes } from '../../../src/inference/onnx/data-types.ts';
import { readModel } from '../../../src/inference/onnx/model.ts';
import { GraphProtoSchema } from '../../../src/inference/onnx/onnx_pb.ts';
import { trainableInitializers } from '../../../src/inference/onnx/trainable-initializers.ts';
import { withInitializers } from '../../../src/inference/onnx/with-initializers.ts';
import { withWeightsAsInputs } from '../../../src/inference/onnx/with-weights-as-inputs.ts';
import { buildModel, floats, graph, integers, node, tensor, value } from './build-model.ts';
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

describe('bytes beside the values', () => {
  const field = (number: number, contents: Uint8Array) => new BinaryWriter().tag(number, 2).bytes(contents).finish();
  const number = (tag: number, value: number) => new BinaryWriter().tag(tag, 0).uint32(value).finish();
  /** With a length in more bytes than it needs. */
  const long = (tag: number, contents: Uint8Array) =>
    Buffer.concat([Uint8Array.of(tag * 8 + 2, (contents.length & 127) | 128, (contents.length >> 7) | 128, 128, 0), contents]);
  const text = (tag: number, value: string) => field(tag, Buffer.from(value));
  const own = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);

  /** A model as no library writes it: out of order, unknown fields at all levels, lengths that are too long, a graph in two parts. */
  const raw = Buffer.concat([field(9, own(1, 2)), number(2, 1), text(500, 'unknown'), text(8, 'w'), Uint8Array.of(10, 1, 2)]);
  const listed = Buffer.concat([text(8, 'v'), number(1, 2), long(4, own(3, 4)), number(2, 1), number(501, 7)]);
  const sum = node('Sum', ['x', 'w', 'v'], ['y']);
  const second = toBinary(GraphProtoSchema, graph({ node: [sum], input: [value('x', [2])], output: [value('y', [2])] }));
  const tail = Buffer.concat([text(503, 'and here'), field(7, second), Uint8Array.of(8, 138, 0)]);
  const bytes = Buffer.concat([
    field(8, number(2, 18)),
    long(7, Buffer.concat([text(502, 'unknown too'), long(5, raw), field(5, listed)])),
    tail,
  ]);

  it('come back as they came, whatever their order and encoding', () => {
    const changed = withInitializers(readModel(bytes), { w: Float32Array.of(5, 6) });
    const expected = Buffer.from(bytes);
    expected.set(own(5, 6), bytes.indexOf(own(1, 2)));
    expect(Buffer.compare(changed, expected)).toBe(0);
    expect(Buffer.compare(withInitializers(readModel(bytes), {}), bytes)).toBe(0);
  });

  it('of values in a list go with the list; what follows stays', async (t) => {
    const changed = withInitializers(readModel(bytes), { w: Float32Array.of(5, 6), v: Float32Array.of(7, 8) });
    expect(await run(t, changed, { x: new Tensor('float32', Float32Array.of(10, 20), [2]) })).toEqual([22, 34]);
    const tensor = Buffer.concat([text(8, 'v'), number(1, 2), number(2, 1), number(501, 7), field(9, own(7, 8))]);
    expect(Buffer.from(changed).includes(Buffer.from(field(5, tensor)))).toBe(true);
    expect(Buffer.compare(changed.subarray(-tail.length), tail)).toBe(0);
  });
});
