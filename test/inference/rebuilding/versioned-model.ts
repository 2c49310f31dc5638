import { Tensor } from 'onnxruntime-node';
import { buildModel, floats, node, value } from '../onnx/build-model.ts';

export const width = 64;
/** Reads its weights by kernels of several kinds: of a version's weights, all outputs are the same. */
export const torn = buildModel({
  node: [
    node('MatMul', ['x', 'w'], ['product']),
    node('Add', ['product', 'b'], ['sum']),
    node('Gather', ['rows', 'index'], ['row']),
    node('Concat', ['sum', 'row'], ['y'], [{ $typeName: 'onnx.AttributeProto', name: 'axis', type: 2, i: 1n } as never]),
  ],
  initializer: [
    floats('w', [width, width], new Array(width * width).fill(0)),
    floats('b', [width], new Array(width).fill(0)),
    floats('rows', [3, width], new Array(3 * width).fill(0)),
  ],
  input: [value('x', ['batch', width]), value('index', ['batch'], 7)],
  output: [value('y', ['batch', 2 * width])],
});
export const tornFeeds = {
  // One row picks the first row of w, so that each output is w + b.
  x: new Tensor(
    'float32',
    Float32Array.from({ length: width }, (_, i) => (i === 0 ? 1 : 0)),
    [1, width],
  ),
  index: new Tensor('int64', BigInt64Array.of(1n), [1]),
};
export const ofVersion = (version: number) => ({
  w: new Array(width * width).fill(version),
  b: new Array(width).fill(version),
  rows: new Array(3 * width).fill(2 * version),
});
