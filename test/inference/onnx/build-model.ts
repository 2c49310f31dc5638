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
export function node(opType: string, input: string[], output: string[], attribute: Attribute[] = []): NodeProto {
  return create(NodeProtoSchema, { opType, input, output, attribute });
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
  { irVersion = 10, opset = 18 }: { irVersion?: number; opset?: number } = {},
): Uint8Array {
  const model = { irVersion: BigInt(irVersion), graph: graph(init), opsetImport: [{ domain: '', version: BigInt(opset) }] };
  return toBinary(ModelProtoSchema, create(ModelProtoSchema, model));
}
