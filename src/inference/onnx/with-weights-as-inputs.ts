import { create } from '@bufbuild/protobuf';
import { RxgradError } from '../../errors.ts';
import { onlyConstantFor } from './constant-inputs.ts';
import { dataTypes } from './data-types.ts';
import { dimsOf, isFloat } from './initializer-values.ts';
import { type Model, modelBytes, withFields } from './model.ts';
import { type TensorProto, type ValueInfoProto, ValueInfoProtoSchema } from './onnx_pb.ts';
import { withCasts } from './with-casts.ts';

/**
 * Writes the model with these initializers as required float32 inputs, after its ordinary ones and in the order given. The rest
 * stays as it is, so a graph inside control flow finds them by the same names; what reads one of another type than float32
 * finds it behind a Cast.
 */
export function withWeightsAsInputs(
  model: Model,
  names: readonly string[],
): { bytes: Uint8Array<ArrayBuffer>; inputs: string[] } {
  const { graph } = model;
  const inputs = [...new Set(names)];
  const byName = new Map(graph.initializer.map((tensor) => [tensor.name, tensor]));
  const tensors = inputs.map((name) => weightOf(model, name, byName.get(name)));
  const moved = new Set(inputs);
  const changed = withFields(graph, {
    initializer: graph.initializer.filter((tensor) => !moved.has(tensor.name)),
    // Before IR version 4 every initializer is listed as an input too, and later ones may be (as a default to override).
    input: [...graph.input.filter((input) => !moved.has(input.name)), ...tensors.map((tensor) => asInput(model, tensor))],
  });
  const narrow = tensors.filter(({ dataType }) => dataType !== dataTypes.float32);
  const proto = withFields(model.proto, { graph: changed });
  return { bytes: modelBytes(narrow.length > 0 ? withCasts(model, proto, narrow) : proto), inputs };
}

function weightOf(model: Model, name: string, tensor: TensorProto | undefined): TensorProto {
  if (!tensor || !isFloat(tensor.dataType)) {
    throw new RxgradError('invalidOption', {
      option: `weights of ${model.name}`,
      expected: 'names of its floating-point initializers',
      got: `"${name}"`,
    });
  }
  const reader = onlyConstantFor(model.graph, name);
  if (reader === undefined) return tensor;
  throw new RxgradError('unsupportedModel', {
    model: model.name,
    problem: `Initializer "${name}" is read by ${reader}, which computes with it only where it is a constant`,
    advice: "Leave it out of trainable, or take strategy: 'rebuild', which keeps weights constant",
  });
}

function asInput(model: Model, tensor: TensorProto): ValueInfoProto {
  const dim = dimsOf(model, tensor).map((value) => ({ value: { case: 'dimValue' as const, value: BigInt(value) } }));
  return create(ValueInfoProtoSchema, {
    name: tensor.name,
    type: { value: { case: 'tensorType', value: { elemType: dataTypes.float32, shape: { dim } } } },
  });
}
