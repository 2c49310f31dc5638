import { RxgradError } from '../../errors.ts';
import { variableNames } from './constant-inputs.ts';
import { dataTypeName, dataTypes } from './data-types.ts';
import { isExternal, type Model } from './model.ts';
import type { TensorProto } from './onnx_pb.ts';

/** One weight of a model, with its values copied out. */
export interface TrainableInitializer {
  readonly name: string;
  readonly dims: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
}

const floatingPoint: readonly number[] = [dataTypes.float32, dataTypes.float16, dataTypes.bfloat16, dataTypes.float64];

/**
 * Reads the weights to train, in the model's order.
 * By default the floating-point initializers of rank 1 and up, without those that nothing reads or that are only settings
 * (scales of Resize, statistics of BatchNormalization, …); `trainable` names them instead, scalars and settings included.
 */
export function trainableInitializers(model: Model, trainable?: readonly string[]): TrainableInitializer[] {
  return (trainable ? named(model, trainable) : byDefault(model)).map((tensor) => read(model, tensor));
}

/** Turns ONNX's 64-bit dims into numbers, and refuses those that no tensor can have. */
export function dimsOf(model: Model, tensor: TensorProto): number[] {
  const dims = tensor.dims.map(Number);
  if (dims.every((dim) => dim >= 0 && Number.isSafeInteger(dim)) && Number.isSafeInteger(sizeOf(dims))) return dims;
  throw new RxgradError('invalidModel', {
    model: model.name,
    got: `initializer "${tensor.name}" with dims [${dims.join(', ')}]`,
  });
}

/** Counts the values of a tensor. */
export function sizeOf(dims: readonly number[]): number {
  return dims.reduce((size, dim) => size * dim, 1);
}

function byDefault({ graph }: Model): TensorProto[] {
  const variable = variableNames(graph);
  return graph.initializer.filter(
    (tensor) => floatingPoint.includes(tensor.dataType) && tensor.dims.length > 0 && variable.has(tensor.name),
  );
}

function named({ name: model, graph }: Model, names: readonly string[]): TensorProto[] {
  const chosen = new Set(names);
  for (const { values } of graph.sparseInitializer) {
    if (values && chosen.has(values.name)) {
      throw new RxgradError('unsupportedModel', {
        model,
        problem: `Initializer "${values.name}" is sparse`,
        advice: 'Leave it out of trainable, or make it dense before exporting',
      });
    }
  }
  const found = graph.initializer.filter((tensor) => chosen.has(tensor.name));
  for (const tensor of found) chosen.delete(tensor.name);
  if (chosen.size > 0) {
    const floats = graph.initializer.filter((tensor) => tensor.dataType === dataTypes.float32).map((tensor) => tensor.name);
    throw new RxgradError('invalidOption', {
      option: `trainable of ${model}`,
      expected: `names of its float32 initializers (${floats.join(', ') || 'it has none'})`,
      got: [...chosen].map((name) => `"${name}"`).join(', '),
    });
  }
  return found;
}

function read(model: Model, tensor: TensorProto): TrainableInitializer {
  if (tensor.dataType !== dataTypes.float32) {
    throw new RxgradError('unsupportedModel', {
      model: model.name,
      problem: `Initializer "${tensor.name}" is ${dataTypeName(tensor.dataType)}, and only float32 can be trained`,
      advice: 'Name the float32 initializers to train through trainable, or convert the model to float32',
    });
  }
  if (isExternal(tensor)) {
    throw new RxgradError('unsupportedModel', {
      model: model.name,
      problem: `The values of initializer "${tensor.name}" are external data, in a file beside the model`,
      advice: 'Save the model as one file, or name the initializers to train through trainable',
    });
  }
  const dims = dimsOf(model, tensor);
  const size = sizeOf(dims);
  const { rawData, floatData } = tensor;
  const got = floatData.length > 0 ? floatData.length : rawData.length / 4;
  if (got !== size) {
    throw new RxgradError('invalidModel', {
      model: model.name,
      got: `initializer "${tensor.name}" with dims [${dims.join(', ')}], but ${got} values`,
    });
  }
  if (floatData.length > 0) return { name: tensor.name, dims, data: Float32Array.from(floatData) };
  // Raw bytes lie anywhere in the file: the copy is aligned. Every platform of onnxruntime-node is little-endian, as ONNX is.
  const data = new Float32Array(size);
  new Uint8Array(data.buffer).set(rawData);
  return { name: tensor.name, dims, data };
}
