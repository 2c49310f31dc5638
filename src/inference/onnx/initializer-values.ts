import { RxgradError } from '../../errors.ts';
import { bfloatBitsOf, bfloatOf, halfBitsOf, halfOf } from '../../narrow-floats.ts';
import { dataTypeName, dataTypes } from './data-types.ts';
import { externalBytes } from './external-data.ts';
import { isExternal, type Model } from './model.ts';
import type { TensorProto } from './onnx_pb.ts';

/** How values of a type become float32, and back. All of them are little-endian, as is every platform of onnxruntime-node. */
interface FloatType {
  readonly bytes: number;
  decode(bytes: Uint8Array, into: Float32Array): void;
  encode(values: Float32Array): Uint8Array;
}

const floatTypes: ReadonlyMap<number, FloatType> = new Map([
  [
    dataTypes.float32,
    {
      bytes: 4,
      decode: (bytes, into) => new Uint8Array(into.buffer).set(bytes),
      encode: (values) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
    },
  ],
  [dataTypes.float16, narrow(halfOf, halfBitsOf)],
  [dataTypes.bfloat16, narrow(bfloatOf, bfloatBitsOf)],
  [
    dataTypes.float64,
    {
      bytes: 8,
      decode: (bytes, into) => into.set(new Float64Array(aligned(bytes))),
      encode: (values) => new Uint8Array(Float64Array.from(values).buffer),
    },
  ],
] satisfies [number, FloatType][]);

/** Whether values of this type can be weights: as float32, which is cast to the type where the model reads it. */
export function isFloat(dataType: number): boolean {
  return floatTypes.has(dataType);
}

/** Counts the values of a tensor. */
export function sizeOf(dims: readonly number[]): number {
  return dims.reduce((size, dim) => size * dim, 1);
}

/** Turns ONNX's 64-bit dims into numbers, and refuses those that no tensor can have. */
export function dimsOf(model: Pick<Model, 'name'>, tensor: TensorProto): number[] {
  const dims = tensor.dims.map(Number);
  if (dims.every((dim) => dim >= 0 && Number.isSafeInteger(dim)) && Number.isSafeInteger(sizeOf(dims))) return dims;
  throw new RxgradError('invalidModel', {
    model: model.name,
    got: `initializer "${tensor.name}" with dims [${dims.join(', ')}]`,
  });
}

/** Copies the values of a floating-point initializer out, as float32, from wherever they lie. */
export function valuesOf(model: Model, tensor: TensorProto): Float32Array<ArrayBuffer> {
  const type = floatTypes.get(tensor.dataType)!;
  const dims = dimsOf(model, tensor);
  const size = sizeOf(dims);
  if (isExternal(tensor)) return decoded(type, externalBytes(model, tensor, size * type.bytes), size);
  const listed = listedValues(tensor);
  const got = listed ? listed.length : tensor.rawData.length / type.bytes;
  if (got !== size) {
    throw new RxgradError('invalidModel', {
      model: model.name,
      got: `initializer "${tensor.name}" with dims [${dims.join(', ')}], but ${got} values`,
    });
  }
  return listed ? Float32Array.from(listed) : decoded(type, tensor.rawData, size);
}

/** The bytes of values as an initializer of its type holds them: rounded to the nearest, ties to even. */
export function bytesOfValues(model: Model, tensor: TensorProto, values: Float32Array): Uint8Array {
  const type = floatTypes.get(tensor.dataType);
  const size = sizeOf(dimsOf(model, tensor));
  if (type && values.length === size) return type.encode(values);
  const takes = type ? `${size} values` : `${dataTypeName(tensor.dataType)}`;
  throw new RxgradError('parametersDiffer', {
    differences: `"${tensor.name}" takes ${takes} in ${model.name}, got ${values.length} values of float32`,
  });
}

/** Values that lie in a list of their type, as ONNX has it beside raw bytes; null where there are none. */
function listedValues({ dataType, floatData, doubleData, int32Data }: TensorProto): readonly number[] | null {
  switch (dataType) {
    case dataTypes.float32:
      return floatData.length > 0 ? floatData : null;
    case dataTypes.float64:
      return doubleData.length > 0 ? doubleData : null;
    case dataTypes.float16:
      return int32Data.length > 0 ? int32Data.map((bits) => halfOf(bits & 0xffff)) : null;
    default:
      return int32Data.length > 0 ? int32Data.map((bits) => bfloatOf(bits & 0xffff)) : null;
  }
}

function narrow(read: (bits: number) => number, write: (bits: number) => number): FloatType {
  return {
    bytes: 2,
    decode: (bytes, into) => {
      for (const [i, bits] of new Uint16Array(aligned(bytes)).entries()) into[i] = read(bits);
    },
    encode: (values) => {
      const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
      return new Uint8Array(Uint16Array.from(bits, write).buffer);
    },
  };
}

function decoded(type: FloatType, bytes: Uint8Array, size: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(size);
  type.decode(bytes, values);
  return values;
}

/** Raw bytes lie anywhere in a file: the copy is aligned. */
function aligned(bytes: Uint8Array): ArrayBuffer {
  return Uint8Array.from(bytes).buffer;
}
