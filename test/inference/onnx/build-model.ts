import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { dataTypes } from '../../../src/inference/onnx/data-types.ts';
import {
  type GraphProto,
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
  TensorProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from '../../../src/inference/onnx/onnx_pb.ts';

/** A node of an ONNX graph. */
export function node(opType: string, input: string[], output: string[], attribute: Attribute[] = [], domain?: string): NodeProto {
  return create(NodeProtoSchema, { opType, input, output, attribute, ...(domain === undefined ? {} : { domain }) });
}

/** An attribute with a whole number, several, a text, or a graph. */
export function attribute(name: string, value: number | number[] | string | GraphProto): Attribute {
  if (typeof value === 'number') return { name, i: BigInt(value), type: 2 };
  if (typeof value === 'string') return { name, s: new TextEncoder().encode(value), type: 3 };
  if (Array.isArray(value)) return { name, ints: value.map(BigInt), type: 7 };
  return { name, g: value, type: 5 };
}
type Attribute = NonNullable<MessageInitShape<typeof NodeProtoSchema>['attribute']>[number];

/** A float32 initializer, in raw bytes. */
export function floats(name: string, dims: number[], values: number[]): TensorProto {
  const rawData = new Uint8Array(Float32Array.from(values).buffer);
  return tensor({ name, dataType: dataTypes.float32, dims: dims.map(BigInt), rawData });
}

/** An int64 initializer. */
export function integers(name: string, values: number[]): TensorProto {
  return tensor({ name, dataType: dataTypes.int64, dims: [BigInt(values.length)], int64Data: values.map(BigInt) });
}

/** An initializer of half the bytes, or twice as many: bits of float16 or bfloat16, or numbers of float64. */
export function otherFloats(
  name: string,
  type: 'float16' | 'bfloat16' | 'float64',
  dims: number[],
  values: number[],
): TensorProto {
  const data = type === 'float64' ? Float64Array.from(values) : Uint16Array.from(values);
  return tensor({ name, dataType: dataTypes[type], dims: dims.map(BigInt), rawData: new Uint8Array(data.buffer) });
}

/** An initializer whose values lie in another file. */
export function external(of: TensorProto, entries: Readonly<Record<string, string | number>>): TensorProto {
  const externalData = Object.entries(entries).map(([key, value]) => ({ key, value: String(value) }));
  return tensor({ name: of.name, dims: of.dims, dataType: of.dataType, dataLocation: 1, externalData });
}

/** Any initializer. */
export function tensor(init: MessageInitShape<typeof TensorProtoSchema>): TensorProto {
  return create(TensorProtoSchema, init);
}

/** What a graph takes or gives; float32 unless told. */
export function value(name: string, dims?: (number | string)[], elemType: number = dataTypes.float32): ValueInfoProto {
  const dim = dims?.map((d) =>
    typeof d === 'number'
      ? { value: { case: 'dimValue' as const, value: BigInt(d) } }
      : { value: { case: 'dimParam' as const, value: d } },
  );
  return create(ValueInfoProtoSchema, {
    name,
    type: { value: { case: 'tensorType', value: { elemType, ...(dim ? { shape: { dim } } : {}) } } },
  });
}

/** A graph, of a model or of control flow. */
export function graph(init: MessageInitShape<typeof GraphProtoSchema>): GraphProto {
  return create(GraphProtoSchema, { name: 'g', ...init });
}

/** The bytes of a model around a graph. */
export function buildModel(
  init: MessageInitShape<typeof GraphProtoSchema>,
  { irVersion = 10, opset = 18, domains = [] }: { irVersion?: number; opset?: number; domains?: string[] } = {},
): Uint8Array {
  const opsetImport = [{ domain: '', version: BigInt(opset) }, ...domains.map((domain) => ({ domain, version: 1n }))];
  const model = { irVersion: BigInt(irVersion), graph: graph(init), opsetImport };
  return toBinary(ModelProtoSchema, create(ModelProtoSchema, model));
}
