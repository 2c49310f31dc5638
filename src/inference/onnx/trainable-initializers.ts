import { RxgradError } from '../../errors.ts';
import { variableNames } from './constant-inputs.ts';
import { dataTypeName } from './data-types.ts';
import { dimsOf, isFloat, sizeOf, valuesOf } from './initializer-values.ts';
import { innerNames, isOfConstantNode } from './inner-names.ts';
import type { Model } from './model.ts';
import type { TensorProto } from './onnx_pb.ts';

/** One weight of a model, with its values copied out. */
export interface TrainableInitializer {
  readonly name: string;
  readonly dims: readonly number[];
  /** As float32, whatever their type in the model. */
  readonly data: Float32Array<ArrayBuffer>;
}

/** What the memory of parameters can hold. */
const MOST_BYTES = 2 ** 32;

/**
 * Reads the weights to train, in the model's order.
 * By default the floating-point initializers of rank 1 and up, without those that nothing reads or that are only settings
 * (scales of Resize, statistics of BatchNormalization, …); `trainable` names them instead, scalars and settings included.
 */
export function trainableInitializers(model: Model, trainable?: readonly string[]): TrainableInitializer[] {
  const chosen = trainable ? named(model, trainable) : byDefault(model);
  assertUnambiguous(model, chosen);
  const bytes = chosen.reduce((sum, tensor) => sum + 4 * sizeOf(dimsOf(model, tensor)), 0);
  if (bytes > MOST_BYTES) throw new RxgradError('outOfMemory', { bytes, limit: MOST_BYTES });
  return chosen.map((tensor) => ({ name: tensor.name, dims: dimsOf(model, tensor), data: valuesOf(model, tensor) }));
}

function byDefault({ graph }: Model): TensorProto[] {
  const variable = variableNames(graph);
  return graph.initializer.filter((tensor) => isFloat(tensor.dataType) && tensor.dims.length > 0 && variable.has(tensor.name));
}

function named(model: Model, names: readonly string[]): TensorProto[] {
  const { graph } = model;
  const missing = new Set(names);
  const found = graph.initializer.filter((tensor) => missing.delete(tensor.name));
  if (missing.size > 0) throw notThere(model, [...missing]);
  const other = found.find(({ dataType }) => !isFloat(dataType));
  if (!other) return found;
  throw new RxgradError('unsupportedModel', {
    model: model.name,
    problem: `Initializer "${other.name}" is ${dataTypeName(other.dataType)}, and only floating-point ones can be trained`,
    advice: 'Leave it out of trainable; weights that are quantised have to be trained before they are',
  });
}

/** A weight that a graph of control flow declares anew would be one of two values there. */
function assertUnambiguous({ name: model, graph }: Model, chosen: readonly TensorProto[]): void {
  const { declared } = innerNames(graph);
  const twice = chosen.find(({ name }) => declared.has(name));
  if (!twice) return;
  throw new RxgradError('unsupportedModel', {
    model,
    problem: `The name of initializer "${twice.name}" is declared again inside ${declared.get(twice.name)}`,
    advice: 'Rename one of the two, which ONNX asks for, or leave it out of trainable',
  });
}

function notThere({ name: model, graph }: Model, names: readonly string[]): RxgradError {
  const inner = innerNames(graph).initializers;
  for (const name of names) {
    const problem = graph.sparseInitializer.some(({ values }) => values?.name === name)
      ? 'is sparse'
      : inner.has(name)
        ? `belongs to a graph inside ${inner.get(name)}, where it cannot be an input`
        : isOfConstantNode(graph, name)
          ? 'is the output of a Constant node, and no initializer'
          : undefined;
    if (problem) {
      return new RxgradError('unsupportedModel', {
        model,
        problem: `Weight "${name}" ${problem}`,
        advice: 'Export it as a dense initializer of the outer graph, or leave it out of trainable',
      });
    }
  }
  const floats = graph.initializer.filter(({ dataType }) => isFloat(dataType)).map((tensor) => tensor.name);
  return new RxgradError('invalidOption', {
    option: `trainable of ${model}`,
    expected: `names of its floating-point initializers (${floats.join(', ') || 'it has none'})`,
    got: names.map((name) => `"${name}"`).join(', '),
  });
}
