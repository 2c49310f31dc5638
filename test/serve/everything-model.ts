import { type DataType, dataTypes } from '../../src/inference/onnx/data-types.ts';
import { buildModel, floats, node, value } from '../inference/onnx/build-model.ts';

const types = {
  fp32: 'float32',
  fp64: 'float64',
  fp16: 'float16',
  int32: 'int32',
  int64: 'int64',
  uint8: 'uint8',
  bool: 'bool',
  bytes: 'string',
} as const satisfies Record<string, DataType>;

/** A model that gives back what it gets, in every type: `fp32` as `fp32_out`, and so on; and one weight, as `twice`. */
export function everythingModel(): Uint8Array {
  const names = Object.entries(types).map(([name, type]) => ({ name, type: dataTypes[type] }));
  return buildModel({
    initializer: [floats('weight', [2], [1, 2])],
    node: [...names.map(({ name }) => node('Identity', [name], [`${name}_out`])), node('Add', ['weight', 'weight'], ['twice'])],
    input: names.map(({ name, type }) => value(name, ['n', 3], type)),
    output: [...names.map(({ name, type }) => value(`${name}_out`, ['n', 3], type)), value('twice', [2])],
  });
}

/** y = x · w: [n, 4] → [n, 2], with w all `weight`. */
export function linearModel(weight = 1): Uint8Array {
  return buildModel({
    initializer: [floats('w', [4, 2], new Array<number>(8).fill(weight))],
    node: [node('MatMul', ['x', 'w'], ['y'])],
    input: [value('x', ['n', 4])],
    output: [value('y', ['n', 2])],
  });
}
