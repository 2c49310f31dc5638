import { buildModel, node, tensor, value } from '../test/inference/onnx/build-model.ts';

/** A perceptron with ReLU between its layers, as an ONNX file: `x` [batch, first] to `y` [batch, last]. */
export function mlpModel(sizes: readonly number[]): Uint8Array {
  const layers = sizes.slice(1).map((outputs, i) => ({ i, inputs: sizes[i]!, outputs }));
  const last = layers.length - 1;
  return buildModel({
    node: layers.flatMap(({ i }) => [
      node('Gemm', [i === 0 ? 'x' : `h${i}`, `w${i}`, `b${i}`], [i === last ? 'y' : `z${i}`]),
      ...(i === last ? [] : [node('Relu', [`z${i}`], [`h${i + 1}`])]),
    ]),
    initializer: layers.flatMap(({ i, inputs, outputs }) => [
      filled(`w${i}`, [inputs, outputs], 1 / Math.sqrt(inputs)),
      filled(`b${i}`, [outputs], 0.1),
    ]),
    input: [value('x', ['batch', sizes[0]!])],
    output: [value('y', ['batch', sizes.at(-1)!])],
  });
}

function filled(name: string, dims: readonly number[], scale: number) {
  const length = dims.reduce((size, dim) => size * dim, 1);
  const rawData = new Uint8Array(Float32Array.from({ length }, (_, i) => scale * Math.sin(i)).buffer);
  return tensor({ name, dataType: 1, dims: dims.map(BigInt), rawData });
}
