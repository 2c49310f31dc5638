import { elementBytes, type TensorSpec } from '../payload.ts';
import type { TensorBytes } from '../write-payload.ts';
import type { Piece, Whole } from './plan.ts';

/** A dense tensor's part: its bytes as they are. */
export function cutDense(
  tensor: TensorSpec,
  payload: Uint8Array,
  { width }: Whole,
  { name, dims, from, to }: Piece,
): TensorBytes {
  const { dtype, begin, scale } = tensor;
  const rowBytes = width * elementBytes[dtype];
  const bytes = payload.subarray(begin + from * rowBytes, begin + to * rowBytes);
  const factors = scale ? factorsOf(scale, payload) : null;
  const own = factors && scale!.length > 1 ? factors.subarray(4 * from, 4 * to) : factors;
  return { name, dims, dtype, length: (to - from) * width, bytes, factors: own, numbers: null };
}

/** The rows of a tensor that fall into a part, in their order, numbered from its first row. */
export function cutRows(
  tensor: TensorSpec,
  payload: Uint8Array,
  numbers: readonly number[],
  { dims: [, ...tail], width }: Whole,
  { name, from, to }: Piece,
): TensorBytes {
  const { dtype, begin, scale } = tensor;
  const places = numbers.flatMap((number, i) => (number >= from && number < to ? [i] : []));
  const rowBytes = width * elementBytes[dtype];
  const bytes = gathered(payload.subarray(begin), places, rowBytes);
  const factors = scale ? factorsOf(scale, payload) : null;
  return {
    name,
    dims: [places.length, ...tail],
    dtype,
    length: places.length * width,
    bytes,
    factors: factors && scale!.length > 1 ? gathered(factors, places, 4) : factors,
    numbers: Int32Array.from(places, (i) => numbers[i]! - from),
  };
}

/** The row numbers of a tensor. */
export function numbersOf({ begin, count, dtype }: NonNullable<TensorSpec['rows']>, payload: Uint8Array): number[] {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const numberAt = (i: number): number =>
    dtype === 'I32' ? view.getInt32(begin + 4 * i, true) : Number(view.getBigInt64(begin + 8 * i, true));
  return Array.from({ length: count }, (_, i) => numberAt(i));
}

function gathered(rows: Uint8Array, places: readonly number[], rowBytes: number): Uint8Array {
  const all = new Uint8Array(places.length * rowBytes);
  for (const [i, place] of places.entries()) all.set(rows.subarray(place * rowBytes, (place + 1) * rowBytes), i * rowBytes);
  return all;
}

function factorsOf({ begin, length }: NonNullable<TensorSpec['scale']>, payload: Uint8Array): Uint8Array {
  return payload.subarray(begin, begin + 4 * length);
}
