import { create } from '@bufbuild/protobuf';
import { RxgradError } from '../../errors.ts';
import { dataTypes } from './data-types.ts';
import { type Model, modelBytes, withFields } from './model.ts';
import { type TensorProto, type ValueInfoProto, ValueInfoProtoSchema } from './onnx_pb.ts';
import { dimsOf } from './trainable-initializers.ts';

/**
 * Writes the model with these initializers as required inputs, after its ordinary ones and in the order given.
 * The rest stays as it is, so a graph inside control flow finds them by the same names.
 */
export function withWeightsAsInputs(
  model: Model,
  names: readonly string[],
): { bytes: Uint8Array<ArrayBuffer>; inputs: string[] } {
  const { graph } = model;
  const inputs = [...new Set(names)];
  const tensors = new Map(graph.initializer.map((tensor) => [tensor.name, tensor]));
  const weights = inputs.map((name) => asInput(model, name, tensors.get(name)));
  const moved = new Set(inputs);
  const changed = withFields(graph, {
    initializer: graph.initializer.filter((tensor) => !moved.has(tensor.name)),
    // Before IR version 4 every initializer is listed as an input too, and later ones may be (as a default to override).
    input: [...graph.input.filter((input) => !moved.has(input.name)), ...weights],
  });
  return { bytes: modelBytes(withFields(model.proto, { graph: changed })), inputs };
}

function asInput(model: Model, name: string, tensor: TensorProto | undefined): ValueInfoProto {
  if (tensor?.dataType !== dataTypes.float32) {
    throw new RxgradError('invalidOption', {
      option: `weights of ${model.name}`,
      expected: 'names of its float32 initializers',
      got: `"${name}"`,
    });
  }
  const dim = dimsOf(model, tensor).map((value) => ({ value: { case: 'dimValue' as const, value: BigInt(value) } }));
  return create(ValueInfoProtoSchema, {
    name,
    type: { value: { case: 'tensorType', value: { elemType: dataTypes.float32, shape: { dim } } } },
  });
}
