import type { ElementType, TensorLayout } from '../payload.ts';
import type { Materialised } from '../pending.ts';
import { bytesOf, type TensorBytes, type WrittenPayload, writePayload } from '../write-payload.ts';

/**
 * Writes float32 gradients as another type, rounded to the nearest, ties to even. I8 is symmetric, with one factor for a
 * tensor: q = round(g / s), s = max|g| / 127. Row numbers are I32.
 */
export function encodeTensors(layout: TensorLayout, { elements, rows }: Materialised, dtype: ElementType): WrittenPayload {
  const tensors = layout.tensors.map((tensor, i): TensorBytes => {
    const numbers = rows[i]!;
    const { name, at, dims } = tensor;
    const width = tensor.rows && numbers ? tensor.length / Math.max(1, tensor.rows.count) : 0;
    const length = numbers ? numbers.length * width : tensor.length;
    const values = elements.subarray(at >> 2, (at >> 2) + length);
    const scale = dtype === 'I8' ? scaleOf(values) : 1;
    return {
      name,
      dims: numbers && dims ? [numbers.length, ...dims.slice(1)] : dims,
      dtype,
      length,
      bytes: encodeElements(values, dtype, scale),
      factors: dtype === 'I8' ? bytesOf(Float32Array.of(scale)) : null,
      numbers,
    };
  });
  return writePayload(tensors);
}

/** Writes numbers as a type; I8 in units of `scale`. */
export function encodeElements(values: Float32Array, dtype: ElementType, scale: number): Uint8Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  switch (dtype) {
    case 'F32':
      return bytesOf(values);
    case 'F16':
      return bytesOf(Uint16Array.from(bits, halfOf));
    case 'BF16':
      return bytesOf(Uint16Array.from(bits, upperHalfOf));
    case 'I8':
      return bytesOf(Int8Array.from(values, (value) => (scale === 0 ? 0 : nearest(value / scale))));
  }
}

const float = new Float32Array(1);
const floatBits = new Uint32Array(float.buffer);

/** The bits of a float32 as those of a half. */
function halfOf(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const size = bits & 0x7fffffff;
  if (size > 0x7f800000) return sign | 0x7e00;
  // From 65520 on the nearest half is infinite.
  if (size >= 0x477ff000) return sign | 0x7c00;
  if (size >= 0x38800000) return sign | ((size - 0x38000000 + 0x0fff + ((size >> 13) & 1)) >> 13);
  // Below 2⁻¹⁴, halves are multiples of 2⁻²⁴, as are the float32 numbers from ½ on: the sum rounds as the half has to.
  floatBits[0] = size;
  float[0] = float[0]! + 0.5;
  return sign | (floatBits[0] - 0x3f000000);
}

/** The upper half of a float32's bits, rounded. */
function upperHalfOf(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x0040;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

function scaleOf(values: Float32Array): number {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  return Math.fround(largest / 127);
}

/** The nearest whole number of at most 127 in size, ties to even. */
function nearest(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  const rounded = rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
  return Math.max(-127, Math.min(127, rounded));
}
