import { create } from '@bufbuild/protobuf';
import { dataTypes } from './data-types.ts';
import { externalBytes } from './external-data.ts';
import { isExternal, type Model, modelBytes, withFields } from './model.ts';
import { StringStringEntryProtoSchema, type TensorProto, TensorProtoSchema } from './onnx_pb.ts';
import { withCasts } from './with-casts.ts';

/** The names that the model has for its weights, and for what else is not in it, as if they lay in files. */
export const weightsFile = 'rxgrad-weights';
const constantsFile = 'rxgrad-constants';

/** Where a weight lies in that file: `offset` counts bytes, `length` values. */
export interface WeightPlace {
  readonly name: string;
  readonly offset: number;
  readonly length: number;
}

/** A model without its weights, and what else a session is to be given with it. */
export interface WithExternalWeights {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** For the option `externalData`: in shared memory, for any number of threads. */
  readonly files: readonly { readonly path: string; readonly data: Uint8Array }[];
}

/**
 * Writes the model with the values of these initializers left out: a session is given them apart, from memory
 * (`externalData` of its options), so that other weights need no other model. They are float32 then; what reads one of another type
 * finds it behind a Cast. Where a session is given any file so, onnxruntime reads no other: what else is external goes along.
 */
export function withExternalWeights(model: Model, places: readonly WeightPlace[]): WithExternalWeights {
  const byName = new Map(places.map((place) => [place.name, place]));
  const others = otherFile(model, byName);
  const initializer = model.graph.initializer.map((tensor) => {
    const place = byName.get(tensor.name);
    if (place) return weight(tensor, place);
    const at = others?.places.get(tensor);
    return at ? withFields(tensor, { externalData: entriesOf(constantsFile, at.offset, at.bytes) }) : tensor;
  });
  // One that is listed as an input, too, would not be taken for a constant.
  const input = model.graph.input.filter(({ name }) => !byName.has(name));
  const proto = withFields(model.proto, { graph: withFields(model.graph, { initializer, input }) });
  const narrow = model.graph.initializer.filter(({ name, dataType }) => byName.has(name) && dataType !== dataTypes.float32);
  const bytes = modelBytes(narrow.length > 0 ? withCasts(model, proto, narrow) : proto);
  return { bytes, files: others ? [{ path: constantsFile, data: others.data }] : [] };
}

function weight({ name, dims }: TensorProto, { offset, length }: WeightPlace): TensorProto {
  const values = length === 0 ? {} : { externalData: entriesOf(weightsFile, offset, 4 * length), dataLocation: 1 };
  return create(TensorProtoSchema, { name, dims, dataType: dataTypes.float32, ...values });
}

function entriesOf(location: string, offset: number, length: number): TensorProto['externalData'] {
  const entries = { location, offset: String(offset), length: String(length) };
  return Object.entries(entries).map(([key, value]) => create(StringStringEntryProtoSchema, { key, value }));
}

/** Reads what is external and no weight, one behind the other. */
function otherFile(
  model: Model,
  weights: ReadonlyMap<string, unknown>,
): { data: Uint8Array; places: Map<TensorProto, { offset: number; bytes: number }> } | null {
  const tensors = model.graph.initializer.filter((tensor) => isExternal(tensor) && !weights.has(tensor.name));
  if (tensors.length === 0) return null;
  const read = tensors.map((tensor) => ({ tensor, bytes: externalBytes(model, tensor) }));
  const places = new Map<TensorProto, { offset: number; bytes: number }>();
  let end = 0;
  for (const { tensor, bytes } of read) {
    places.set(tensor, { offset: end, bytes: bytes.length });
    end += Math.ceil(bytes.length / 64) * 64;
  }
  const data = new Uint8Array(new SharedArrayBuffer(end));
  for (const { tensor, bytes } of read) data.set(bytes, places.get(tensor)!.offset);
  return { data, places };
}
