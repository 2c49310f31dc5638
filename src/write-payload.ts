import { elementBytes, type TensorLayout, type TensorSpec, tensorLayout } from './payload.ts';

type Placed = 'begin' | 'scale' | 'rows';

/** A tensor that is to be written: its bytes beside what is said of it. */
export interface TensorBytes extends Omit<TensorSpec, Placed> {
  readonly bytes: Uint8Array;
  /** For I8: its factors. */
  readonly factors: Uint8Array | null;
  /** For touched rows: their numbers. */
  readonly numbers: Int32Array | null;
}

/** A payload and how it is cut. */
export interface WrittenPayload {
  readonly layout: TensorLayout;
  readonly payload: Uint8Array;
}

/** Writes tensors as one payload. Row numbers and factors go first, then the widest elements, so that all parts are aligned. */
export function writePayload(tensors: readonly TensorBytes[]): WrittenPayload {
  const parts: Uint8Array[] = [];
  let end = 0;
  const add = (part: Uint8Array): number => {
    parts.push(part);
    const begin = end;
    end += part.byteLength;
    return begin;
  };
  const sorted = tensors.toSorted((a, b) => elementBytes[b.dtype] - elementBytes[a.dtype]);
  const prepared = sorted.map(({ bytes, factors, numbers, ...tensor }) => {
    const rows = numbers && { begin: add(bytesOf(numbers)), count: numbers.length, dtype: 'I32' as const };
    const scale = factors && { begin: add(factors), length: factors.byteLength / 4 };
    return { bytes, spec: { ...tensor, ...(scale ? { scale } : {}), ...(rows ? { rows } : {}) } };
  });
  const specs = prepared.map(({ bytes, spec }): TensorSpec => ({ ...spec, begin: add(bytes) }));
  return { layout: tensorLayout(specs, end), payload: Buffer.concat(parts) };
}

/** The bytes of numbers: a view. */
export function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
