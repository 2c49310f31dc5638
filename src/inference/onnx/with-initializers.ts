import { RxgradError } from '../../errors.ts';
import { dataTypes } from './data-types.ts';
import { isExternal, type Model, modelBytes, withFields } from './model.ts';
import type { TensorProto } from './onnx_pb.ts';
import { dimsOf, sizeOf } from './trainable-initializers.ts';

/** Writes the model with these values in its initializers; those that are not named, and everything else, stay as they are. */
export function withInitializers(model: Model, weights: Readonly<Record<string, Float32Array>>): Uint8Array<ArrayBuffer> {
  const { graph } = model;
  const left = new Map(Object.entries(weights));
  const initializer = graph.initializer.map((tensor) => {
    const data = left.get(tensor.name);
    left.delete(tensor.name);
    return data ? withData(model, tensor, data) : tensor;
  });
  if (left.size > 0) {
    const names = [...left.keys()].map((name) => `"${name}"`).join(', ');
    throw new RxgradError('parametersDiffer', { differences: `${model.name} has no initializer ${names}` });
  }
  return modelBytes(withFields(model.proto, { graph: withFields(graph, { initializer }) }));
}

function withData(model: Model, tensor: TensorProto, data: Float32Array): TensorProto {
  const dims = dimsOf(model, tensor);
  if (tensor.dataType !== dataTypes.float32 || data.length !== sizeOf(dims)) {
    const expected = `"${tensor.name}" takes ${tensor.dataType === dataTypes.float32 ? `${sizeOf(dims)} values` : 'no float32'}`;
    throw new RxgradError('parametersDiffer', { differences: `${expected} in ${model.name}, got ${data.length} values` });
  }
  const rawData = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const inside = withFields(tensor, { rawData, floatData: [] });
  return isExternal(tensor) ? withFields(inside, { externalData: [], dataLocation: 0 }) : inside;
}
