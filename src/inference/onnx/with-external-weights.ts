import { create } from '@bufbuild/protobuf';
import { type Model, modelBytes, withFields } from './model.ts';
import { StringStringEntryProtoSchema } from './onnx_pb.ts';

/** The name that the model has for its weights, as if they lay in a file. */
export const weightsFile = 'rxgrad-weights';

/** Where a weight lies in that file: `offset` counts bytes, `length` values. */
export interface WeightPlace {
  readonly name: string;
  readonly offset: number;
  readonly length: number;
}

/**
 * Writes the model with the values of these initializers left out: a session is given them apart, from memory
 * (`externalData` of its options), so that other weights need no other model.
 */
export function withExternalWeights(model: Model, places: readonly WeightPlace[]): Uint8Array<ArrayBuffer> {
  const byName = new Map(places.map((place) => [place.name, place]));
  const initializer = model.graph.initializer.map((tensor) => {
    const place = byName.get(tensor.name);
    if (!place || place.length === 0) return tensor;
    const entries = { location: weightsFile, offset: String(place.offset), length: String(4 * place.length) };
    const externalData = Object.entries(entries).map(([key, value]) => create(StringStringEntryProtoSchema, { key, value }));
    return withFields(tensor, { rawData: new Uint8Array(0), floatData: [], externalData, dataLocation: 1 });
  });
  return modelBytes(withFields(model.proto, { graph: withFields(model.graph, { initializer }) }));
}
