import { buildModel, node, tensor, value } from '../test/inference/onnx/build-model.ts';

/** One dense layer, `y = x · w`, as an ONNX file. */
export function denseModel(width: number): Uint8Array {
  const rawData = new Uint8Array(Float32Array.from({ length: width * width }, (_, i) => Math.sin(i) / width).buffer);
  return buildModel({
    node: [node('MatMul', ['x', 'w'], ['y'])],
    initializer: [tensor({ name: 'w', dataType: 1, dims: [BigInt(width), BigInt(width)], rawData })],
    input: [value('x', ['batch', width])],
    output: [value('y', ['batch', width])],
  });
}
