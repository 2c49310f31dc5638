import { describe, expect, it } from 'vitest';
import { dataTypes } from '../../../src/inference/onnx/data-types.ts';
import { type Model, readModel } from '../../../src/inference/onnx/model.ts';
import type { TensorProto } from '../../../src/inference/onnx/onnx_pb.ts';
import { trainableInitializers } from '../../../src/inference/onnx/trainable-initializers.ts';
import { buildModel, floats, integers, node, tensor, value } from './build-model.ts';
import { example, exampleNames } from './example-models.ts';

const names = (model: Model, trainable?: string[]) => trainableInitializers(model, trainable).map(({ name }) => name);

/** A model that adds all of these initializers to its input. */
function sumOf(...initializer: TensorProto[]): Model {
  const sum = node('Sum', ['x', ...initializer.map(({ name }) => name)], ['y']);
  return readModel(buildModel({ input: [value('x', [2])], output: [value('y', [2])], node: [sum], initializer }));
}

describe('by default', () => {
  it.each(exampleNames)('%s trains what torch trains', (name) => {
    const { path, gradients } = example(name);
    const weights = trainableInitializers(readModel(path));
    expect(Object.fromEntries(weights.map(({ name, dims }) => [name, dims]))).toEqual(
      Object.fromEntries(Object.entries(gradients).map(([name, { dims }]) => [name, dims])),
    );
  });

  it('takes float32 of rank 1 and up, in the order of the model', () => {
    const model = sumOf(floats('b', [2], [1, 2]), floats('scalar', [], [3]), integers('i', [1, 2]), floats('a', [1, 2], [3, 4]));
    expect(trainableInitializers(model)).toEqual([
      { name: 'b', dims: [2], data: Float32Array.of(1, 2) },
      { name: 'a', dims: [1, 2], data: Float32Array.of(3, 4) },
    ]);
  });

  it('leaves out what nothing reads', () => {
    const initializer = [floats('unused', [1], [1]), floats('returned', [1], [2])];
    const model = readModel(buildModel({ input: [value('x')], output: [value('x'), value('returned')], initializer }));
    expect(names(model)).toEqual(['returned']);
  });
});

describe('trainable', () => {
  const model = sumOf(floats('w', [2], [1, 2]), floats('scalar', [], [3]), integers('i', [1, 2]));

  it('names others, scalars included', () => {
    expect(trainableInitializers(model, ['scalar'])).toEqual([{ name: 'scalar', dims: [], data: Float32Array.of(3) }]);
    expect(names(model, ['scalar', 'w', 'w'])).toEqual(['w', 'scalar']);
    expect(names(model, [])).toEqual([]);
  });

  it('refuses unknown names, and lists the known', () => {
    const message = `trainable of ${model.name}: expected names of its floating-point initializers (w, scalar), got "v", "x"`;
    expect(() => names(model, ['w', 'v', 'x'])).toThrow(expect.objectContaining({ code: 'RXGRAD_INVALID_OPTION', message }));
  });

  it('refuses other types by name', () => {
    expect(() => names(model, ['i'])).toThrow(
      expect.objectContaining({ code: 'RXGRAD_UNSUPPORTED_MODEL', message: expect.stringContaining('"i" is int64') }),
    );
  });
});

describe('other floating-point types', () => {
  const dims = [3n];
  const half = tensor({ name: 'h', dataType: dataTypes.float16, dims, rawData: bytesOf(Uint16Array.of(0x3c00, 0x0001, 0xfc00)) });
  const listed = tensor({ name: 'h', dataType: dataTypes.float16, dims, int32Data: [0x3c00, 0x0001, 0xfc00] });
  const bfloat = tensor({
    name: 'h',
    dataType: dataTypes.bfloat16,
    dims,
    rawData: bytesOf(Uint16Array.of(0x3f80, 0xc040, 0x7f80)),
  });
  const listedBfloat = tensor({ name: 'h', dataType: dataTypes.bfloat16, dims, int32Data: [0x3f80, 0xc040, 0x7f80] });
  const double = tensor({ name: 'h', dataType: dataTypes.float64, dims, rawData: bytesOf(Float64Array.of(1, -0.1, 1e300)) });
  const listedDouble = tensor({ name: 'h', dataType: dataTypes.float64, dims, doubleData: [1, -0.1, 1e300] });

  it.each([
    ['float16', half, [1, 2 ** -24, Number.NEGATIVE_INFINITY]],
    ['float16 in a list', listed, [1, 2 ** -24, Number.NEGATIVE_INFINITY]],
    ['bfloat16', bfloat, [1, -3, Number.POSITIVE_INFINITY]],
    ['bfloat16 in a list', listedBfloat, [1, -3, Number.POSITIVE_INFINITY]],
    ['float64', double, [1, Math.fround(-0.1), Number.POSITIVE_INFINITY]],
    ['float64 in a list', listedDouble, [1, Math.fround(-0.1), Number.POSITIVE_INFINITY]],
  ])('%s is read as float32', (_, weight, values) => {
    expect(trainableInitializers(sumOf(weight))).toEqual([{ name: 'h', dims: [3], data: Float32Array.from(values) }]);
  });

  it('of too few bytes are refused', () => {
    expect(() => names(sumOf(tensor({ ...half, rawData: new Uint8Array(5) })))).toThrow('"h" with dims [3], but 2.5 values');
  });
});

function bytesOf(values: Uint16Array | Float64Array): Uint8Array {
  return new Uint8Array(values.buffer);
}

describe('values', () => {
  it('are read from raw bytes at every alignment', () => {
    for (let shift = 0; shift < 4; shift++) {
      const model = sumOf(tensor({ ...floats('w', [3], [1.5, -2, 3e-9]), docString: 'x'.repeat(shift) }));
      const bytes = buildModel(model.graph);
      const moved = new Uint8Array(bytes.length + shift).subarray(shift);
      moved.set(bytes);
      expect(trainableInitializers(readModel(moved))[0]!.data).toEqual(Float32Array.of(1.5, -2, 3e-9));
    }
  });

  it('are read from float_data', () => {
    const model = sumOf(tensor({ name: 'w', dataType: dataTypes.float32, dims: [3n], floatData: [1.5, -2, 3] }));
    expect(trainableInitializers(model)[0]!.data).toEqual(Float32Array.of(1.5, -2, 3));
  });

  it('are copies', () => {
    const model = sumOf(floats('w', [2], [1, 2]));
    trainableInitializers(model)[0]!.data.fill(7);
    expect(trainableInitializers(model)[0]!.data).toEqual(Float32Array.of(1, 2));
  });

  it.each([
    ['too few', floats('w', [3], [1, 2]), '"w" with dims [3], but 2 values'],
    ['part of one', tensor({ ...floats('w', [1], [1]), rawData: new Uint8Array(5) }), '"w" with dims [1], but 1.25 values'],
    ['none', tensor({ name: 'w', dataType: dataTypes.float32, dims: [2n] }), '"w" with dims [2], but 0 values'],
    ['negative dims', tensor({ ...floats('w', [1], [1]), dims: [-1n, -1n] }), '"w" with dims [-1, -1]'],
    ['immense dims', tensor({ ...floats('w', [1], [1]), dims: [1n << 40n, 1n << 40n] }), '"w" with dims'],
  ])('are refused: %s', (_, weight, got) => {
    expect(() => names(sumOf(weight))).toThrow(
      expect.objectContaining({ code: 'RXGRAD_INVALID_MODEL', message: expect.stringContaining(got) }),
    );
  });

  it('in other files are refused by name, unless they are not trained', () => {
    const external = tensor({
      ...{ name: 'e', dataType: dataTypes.float32, dims: [2n], dataLocation: 1 },
      externalData: [{ key: 'location', value: 'weights.bin' }],
    });
    const model = sumOf(floats('w', [2], [1, 2]), external);
    const refusal = expect.objectContaining({
      code: 'RXGRAD_UNSUPPORTED_MODEL',
      message: expect.stringContaining('initializer "e"'),
    });
    expect(() => names(model)).toThrow(refusal);
    expect(() => names(model, ['e'])).toThrow(refusal);
    expect(names(model, ['w'])).toEqual(['w']);
  });

  it('that are sparse are refused by name', () => {
    const values = floats('s', [1], [1]);
    const model = readModel(
      buildModel({ input: [value('x')], output: [value('x')], sparseInitializer: [{ values, dims: [4n] }] }),
    );
    expect(() => names(model, ['s'])).toThrow('Weight "s" is sparse');
    expect(names(model)).toEqual([]);
  });
});
