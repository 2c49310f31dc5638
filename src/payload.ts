import type { Arena } from './kernels/arena.ts';
import { copyingAndSquaring } from './kernels/kernels.ts';

/** How elements are written on the wire. */
export type ElementType = 'F32' | 'F16' | 'BF16' | 'I8';

/** Bytes of an element. */
export const elementBytes: Readonly<Record<ElementType, number>> = { F32: 4, F16: 2, BF16: 2, I8: 1 };

/** One tensor of a batch: `length` elements at byte `begin` of the payload. */
export interface TensorSpec {
  readonly name: string;
  /** Null where nobody gave them. For rows: of the rows that are there. */
  readonly dims: readonly number[] | null;
  readonly dtype: ElementType;
  readonly begin: number;
  readonly length: number;
  /** For I8: float32 factors at a byte of the payload, one for the tensor or one for each row. */
  readonly scale?: { readonly begin: number; readonly length: number };
  /** For the touched rows of a table: their numbers, as many as there are rows. */
  readonly rows?: { readonly begin: number; readonly count: number; readonly dtype: 'I32' | 'I64' };
}

/** A tensor and where its float32 elements go when the payload is taken in: byte `at` from the start of the gradients. */
export interface PlacedTensor extends TensorSpec {
  readonly at: number;
  /** Where its row numbers go, as int32. */
  readonly rowsAt: number;
}

/** How a payload is cut into tensors. Batches of the same form share one object, so work on it can be kept by identity. */
export interface TensorLayout {
  readonly tensors: readonly PlacedTensor[];
  /** Bytes of the payload. */
  readonly byteLength: number;
  /** Float32 elements of all tensors together, taken in one after the other. */
  readonly elements: number;
  /** Bytes that a batch needs when it is taken in: its elements, then its row numbers. */
  readonly roomBytes: number;
  /** Whether the payload is its elements already: dense float32 and nothing else. */
  readonly plain: boolean;
}

/** Places the tensors of a payload one after the other. */
export function tensorLayout(tensors: readonly TensorSpec[], byteLength: number): TensorLayout {
  const elements = tensors.reduce((sum, { length }) => sum + length, 0);
  let at = 0;
  let rowsAt = 4 * elements;
  const placed = tensors.map((tensor): PlacedTensor => {
    const place = { ...tensor, at, rowsAt };
    at += 4 * tensor.length;
    rowsAt += 4 * (tensor.rows?.count ?? 0);
    return place;
  });
  const plain =
    placed.every(({ dtype, rows, begin, at }) => dtype === 'F32' && !rows && begin === at) && byteLength === 4 * elements;
  return { tensors: placed, byteLength, elements, roomBytes: rowsAt, plain };
}

/**
 * Takes a payload in, yielding now and then: its elements as float32 at `address` of the arena, in the layout's places.
 * Returns their sum of squares, which is finite exactly when every element is.
 */
export function takingIn(
  { kernels, bytes }: Arena,
  address: number,
  { plain }: TensorLayout,
  payload: Uint8Array,
): Generator<void, number> {
  if (!plain) throw new Error('not yet');
  return copyingAndSquaring(kernels, bytes, address, payload);
}

/** As {@link takingIn}, in one go. */
export function takeIn(arena: Arena, address: number, layout: TensorLayout, payload: Uint8Array): number {
  const taking = takingIn(arena, address, layout, payload);
  let result = taking.next();
  while (!result.done) result = taking.next();
  return result.value;
}
