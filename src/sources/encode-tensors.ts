import { bfloatBitsOf, halfBitsOf } from '../narrow-floats.ts';
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
      return bytesOf(Uint16Array.from(bits, halfBitsOf));
    case 'BF16':
      return bytesOf(Uint16Array.from(bits, bfloatBitsOf));
    case 'I8':
      return bytesOf(Int8Array.from(values, (value) => (scale === 0 ? 0 : nearest(value / scale))));
  }
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
