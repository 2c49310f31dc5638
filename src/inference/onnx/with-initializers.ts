import { RxgradError } from '../../errors.ts';
import { externalBytes, externalLength } from './external-data.ts';
import { bytesOfValues } from './initializer-values.ts';
import { graphsOf, isExternal, type Model, nodesOf } from './model.ts';
import type { GraphProto, TensorProto } from './onnx_pb.ts';
import { type Pieces, varint, withContents } from './wire.ts';

/** Numbers of fields, by message, as onnx.proto has them. */
const GRAPH = 7;
const INITIALIZER = 5;
const RAW_DATA = 9;
const LENGTH_DELIMITED = 2;
/** All in which a tensor can say its values: lists by type, raw bytes, and the place of external data. */
const VALUES: readonly number[] = [4, 5, 6, 7, RAW_DATA, 10, 11, 13, 14];

const maxBytes = 2 ** 31 - 1;

export interface WithInitializersOptions {
  /** Whether initializers whose values lie in other files get them too, so that the model stands alone. Default false. */
  readonly alone?: boolean;
}

/**
 * Writes the model with these values in its initializers, rounded to their types (to the nearest, ties to even). All other bytes
 * are those of the file as it came, in its order and encoding, with what no schema knows.
 */
export function withInitializers(
  model: Model,
  weights: Readonly<Record<string, Float32Array>>,
  { alone = false }: WithInitializersOptions = {},
): Uint8Array<ArrayBuffer> {
  const { initializer } = model.graph;
  assertThere(model, initializer, weights);
  if (alone) assertNothingExternalInside(model, model.graph);
  assertRoom(model, weights, alone);
  let at = 0;
  const pieces = withContents(model.bytes, (field, graph) => {
    if (field.number !== GRAPH) return undefined;
    return withContents(graph, (inner, bytes) => {
      if (inner.number !== INITIALIZER) return undefined;
      const tensor = initializer[at++]!;
      const data = Object.hasOwn(weights, tensor.name) ? weights[tensor.name] : undefined;
      if (data) return withValues(bytes, bytesOfValues(model, tensor, data));
      return alone && isExternal(tensor) ? withValues(bytes, externalBytes(model, tensor)) : undefined;
    });
  });
  return pieces.joined();
}

/** The bytes of a tensor with raw values: in the place of those it has, or behind the rest where they lay in a list or another file. */
function withValues(tensor: Uint8Array, values: Uint8Array): Pieces {
  let placed = false;
  const pieces = withContents(tensor, ({ number }) => {
    if (number === RAW_DATA && !placed) {
      placed = true;
      return values;
    }
    return VALUES.includes(number) ? null : undefined;
  });
  if (!placed) {
    pieces.add(Uint8Array.of(RAW_DATA * 8 + LENGTH_DELIMITED));
    pieces.add(varint(values.byteLength));
    pieces.add(values);
  }
  return pieces;
}

function assertThere({ name: model }: Model, tensors: readonly TensorProto[], weights: Readonly<Record<string, unknown>>): void {
  const there = new Set(tensors.map(({ name }) => name));
  const missing = Object.keys(weights).filter((name) => !there.has(name));
  if (missing.length === 0) return;
  const names = missing.map((name) => `"${name}"`).join(', ');
  throw new RxgradError('parametersDiffer', { differences: `${model} has no initializer ${names}` });
}

/** Before anything is read or copied. */
function assertRoom(model: Model, weights: Readonly<Record<string, Float32Array>>, alone: boolean): void {
  let bytes = model.bytes.length;
  for (const tensor of model.graph.initializer) {
    if (!isExternal(tensor)) continue;
    const data = Object.hasOwn(weights, tensor.name) ? weights[tensor.name] : undefined;
    if (data) bytes += data.byteLength;
    else if (alone) bytes += externalLength(model, tensor);
  }
  if (bytes <= maxBytes) return;
  throw new RxgradError('unsupportedModel', {
    model: model.name,
    problem: `Its external data in one file would make ${bytes} bytes, where a model file ends at ${maxBytes}`,
    advice: 'Write the weights as safetensors, or train fewer of them through trainable',
  });
}

function assertNothingExternalInside(model: Model, graph: GraphProto): void {
  for (const node of nodesOf(graph)) {
    const tensors = node.attribute.flatMap(({ t, tensors }) => (t ? [t, ...tensors] : tensors));
    const inner = graphsOf(node).flatMap(({ initializer }) => initializer);
    const external = [...tensors, ...inner].find(isExternal);
    if (!external) continue;
    throw new RxgradError('unsupportedModel', {
      model: model.name,
      problem: `The values of "${external.name || node.output[0]}", inside ${node.opType}, are external data, which stay in their file`,
      advice: 'Save the model as one file first, or write the weights as safetensors',
    });
  }
}
