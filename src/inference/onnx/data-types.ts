/** Numbers ONNX's element types, under onnxruntime's names for them where it has one. */
export const dataTypes = {
  float32: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  string: 8,
  bool: 9,
  float16: 10,
  float64: 11,
  uint32: 12,
  uint64: 13,
  complex64: 14,
  complex128: 15,
  bfloat16: 16,
  float8e4m3fn: 17,
  float8e4m3fnuz: 18,
  float8e5m2: 19,
  float8e5m2fnuz: 20,
  uint4: 21,
  int4: 22,
  float4e2m1: 23,
  float8e8m0: 24,
} as const;

export type DataType = keyof typeof dataTypes;

const names = new Map<number, DataType>();
for (const [name, number] of Object.entries(dataTypes)) names.set(number, name as DataType);

/** Names an element type; one that this version does not know is named by its number. */
export function dataTypeName(number: number): DataType | `type ${number}` {
  return names.get(number) ?? `type ${number}`;
}
