/** The protocol's names of tensor types, with onnxruntime's for the same and the array that holds its elements. */
const table = {
  BOOL: ['bool', Uint8Array],
  UINT8: ['uint8', Uint8Array],
  UINT16: ['uint16', Uint16Array],
  UINT32: ['uint32', Uint32Array],
  UINT64: ['uint64', BigUint64Array],
  INT8: ['int8', Int8Array],
  INT16: ['int16', Int16Array],
  INT32: ['int32', Int32Array],
  INT64: ['int64', BigInt64Array],
  // As bits: not every Node.js that this runs on has an array of half floats.
  FP16: ['float16', Uint16Array],
  FP32: ['float32', Float32Array],
  FP64: ['float64', Float64Array],
} as const;

/** A tensor type as the Open Inference Protocol names it. */
export type Datatype = keyof typeof table | 'BYTES';
export type NumericDatatype = keyof typeof table;
export type NumericData =
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Float32Array
  | Float64Array;
/** The elements of a tensor, row by row: text for BYTES, and bits for FP16. */
export type TensorData = NumericData | readonly string[];

interface NumericArrays {
  readonly BYTES_PER_ELEMENT: number;
  new (length: number): NumericData;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): NumericData;
}

const arrays = new Map(Object.entries(table).map(([name, [, array]]) => [name, array as unknown as NumericArrays]));
const onnxTypes = new Map<string, string>([['BYTES', 'string']]);
const datatypes = new Map<string, Datatype>([['string', 'BYTES']]);
for (const [name, [type]] of Object.entries(table)) {
  onnxTypes.set(name, type);
  datatypes.set(type, name as Datatype);
}

/** Every name, for messages. */
export const datatypeNames: readonly string[] = [...onnxTypes.keys()];

/** Tells whether a text names a tensor type of the protocol that can be served. */
export function isDatatype(name: unknown): name is Datatype {
  return onnxTypes.has(name as string);
}

/** What onnxruntime calls it. */
export function onnxTypeOf(datatype: Datatype): string {
  return onnxTypes.get(datatype)!;
}

/** What the protocol calls a type of onnxruntime; undefined for one that it does not know, as bfloat16. */
export function datatypeOf(onnxType: string): Datatype | undefined {
  return datatypes.get(onnxType);
}

/** Bytes of one element; 0 for BYTES, whose elements have their own lengths. */
export function bytesPerElement(datatype: Datatype): number {
  return arrays.get(datatype)?.BYTES_PER_ELEMENT ?? 0;
}

/** An array of zeros. */
export function numericArray(datatype: NumericDatatype, length: number): NumericData {
  return new (arrays.get(datatype)!)(length);
}

/** A view of bytes as elements; they have to lie at a multiple of an element's size. */
export function numericView(datatype: NumericDatatype, buffer: ArrayBufferLike, offset: number, length: number): NumericData {
  return new (arrays.get(datatype)!)(buffer, offset, length);
}
