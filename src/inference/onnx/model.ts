import { readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fromBinary, type Message, toBinary } from '@bufbuild/protobuf';
import { RxgradError } from '../../errors.ts';
import { takeCensus } from './census.ts';
import { dataTypeName } from './data-types.ts';
import { fatalProblemOf } from './fatal-nodes.ts';
import { type GraphProto, type ModelProto, ModelProtoSchema, type NodeProto, type TensorProto } from './onnx_pb.ts';

/** Protocol buffers end at 2 GiB; larger models keep their weights in files of external data. */
const maxBytes = 2 ** 31 - 1;

/** A parsed model. Nothing here changes it: surgery writes new bytes. */
export interface Model {
  /** What errors call it: its path, or its size. */
  readonly name: string;
  /** Where its files of external data are, if it came from a file: a session made from bytes has to be told. */
  readonly folder: string | undefined;
  /** The file as it came. */
  readonly bytes: Uint8Array;
  readonly proto: ModelProto;
  readonly graph: GraphProto;
}

/** An ordinary input: what a caller feeds, as opposed to weights. */
export interface ModelInput {
  readonly name: string;
  /** As onnxruntime names it (`float32`, `int64`, …). */
  readonly type: string;
  /** A number where it is fixed, else its symbolic name (`?` where it has none); undefined where not even the rank is known. */
  readonly dims: readonly (number | string)[] | undefined;
}

/** Reads a model from a path or from bytes; the bytes are lent for as long as the model is used. */
export function readModel(source: string | Uint8Array): Model {
  if (typeof source === 'string') return parse(readFile(source), source, dirname(resolve(source)));
  if (source instanceof Uint8Array) return parse(source, `model of ${source.length} bytes`, undefined);
  const name = 'model';
  throw new RxgradError('invalidModel', { model: name, got: `${source === null ? 'null' : typeof source} as its path or bytes` });
}

/** Serialises a model; one that nothing has changed comes back field for field, whatever version of ONNX it follows. */
export function modelBytes(proto: ModelProto): Uint8Array<ArrayBuffer> {
  return toBinary(ModelProtoSchema, proto);
}

/** Lists the inputs that have no initializer, in order. */
export function modelInputs(model: Model): ModelInput[] {
  const initializers = new Set(model.graph.initializer.map((tensor) => tensor.name));
  for (const sparse of model.graph.sparseInitializer) initializers.add(sparse.values?.name ?? '');
  return model.graph.input
    .filter((input) => !initializers.has(input.name))
    .map(({ name, type }) => {
      if (type?.value.case !== 'tensorType') return { name, type: 'not a tensor', dims: undefined };
      const { elemType, shape } = type.value.value;
      const dims = shape?.dim.map(({ value }) => (value.case === 'dimValue' ? Number(value.value) : value.value || '?'));
      return { name, type: dataTypeName(elemType), dims };
    });
}

/** Walks the nodes of a graph and of the graphs inside its control flow, which see the outer names too. */
export function* nodesOf(graph: GraphProto): Generator<NodeProto> {
  for (const node of graph.node) {
    yield node;
    for (const inner of graphsOf(node)) yield* nodesOf(inner);
  }
}

/** The graphs inside a node of control flow. */
export function graphsOf(node: NodeProto): GraphProto[] {
  return node.attribute.flatMap(({ g, graphs }) => (g ? [g, ...graphs] : graphs));
}

/** Copies a message with some fields replaced; the rest, unknown fields included, is shared with the original. */
export function withFields<T extends Message>(message: T, fields: Partial<Omit<T, keyof Message>>): T {
  // Defaults live on the prototype and presence is ownership, so a spread would not do.
  return Object.assign(Object.create(Object.getPrototypeOf(message)), message, fields);
}

/** Tells whether a tensor's values lie in another file. */
export function isExternal(tensor: TensorProto): boolean {
  return tensor.dataLocation === 1;
}

function readFile(path: string): Uint8Array {
  try {
    const stats = statSync(path);
    // Reading a pipe or a device might never end.
    if (!stats.isFile())
      throw new RxgradError('invalidModel', { model: path, got: stats.isDirectory() ? 'a folder' : 'no plain file' });
    if (stats.size > maxBytes) throw tooLarge(path, stats.size);
    return readFileSync(path);
  } catch (cause) {
    if (cause instanceof RxgradError) throw cause;
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    throw new RxgradError(
      'invalidModel',
      { model: path, got: code === 'ENOENT' ? 'no such file' : `${code} on reading it` },
      { cause },
    );
  }
}

function parse(bytes: Uint8Array, name: string, folder: string | undefined): Model {
  if (bytes.length === 0) throw new RxgradError('invalidModel', { model: name, got: 'no bytes at all' });
  if (bytes.length > maxBytes) throw tooLarge(name, bytes.length);
  // A plain view: slices of a Buffer would be Buffers, which compare and print differently.
  bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  let proto: ModelProto;
  try {
    takeCensus(ModelProtoSchema, bytes);
    proto = fromBinary(ModelProtoSchema, bytes);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new RxgradError(
      'invalidModel',
      { model: name, got: `${bytes.length} bytes that are something else, or cut off (${reason})` },
      { cause },
    );
  }
  const { graph } = proto;
  // Random bytes are often a valid message of unknown fields, so look for what every model has.
  const missing = !graph
    ? 'a graph'
    : graph.output.length === 0
      ? 'outputs'
      : proto.opsetImport.length === 0
        ? 'an operator set'
        : undefined;
  if (!graph || missing) throw new RxgradError('invalidModel', { model: name, got: `${bytes.length} bytes without ${missing}` });
  assertDistinct(name, 'initializers', [
    ...graph.initializer.map((tensor) => tensor.name),
    ...graph.sparseInitializer.map(({ values }) => values?.name ?? ''),
  ]);
  assertDistinct(
    name,
    'inputs',
    graph.input.map((input) => input.name),
  );
  for (const node of nodesOf(graph)) {
    const problem = fatalProblemOf(node);
    if (problem) throw new RxgradError('invalidModel', { model: name, got: problem });
  }
  return { name, folder, bytes, proto, graph };
}

function assertDistinct(model: string, what: string, names: readonly string[]): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name)) throw new RxgradError('invalidModel', { model, got: `two ${what} named "${name}"` });
    seen.add(name);
  }
}

function tooLarge(name: string, size: number): RxgradError {
  return new RxgradError('invalidModel', {
    model: name,
    got: `${size} bytes, where a model file ends at ${maxBytes} (larger ones keep their weights in external data)`,
  });
}
