import { RxgradError } from './errors.ts';
import type { Arena } from './kernels/arena.ts';
import { copyAndSquareAtOnce, copyBytes, copyingAndSquaring, sumOfSquares } from './kernels/kernels.ts';

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

const STAGING_BYTES = 16_384;

/** Elements of a tensor after which {@link takingIn} lets others have their turn: about a millisecond's work. */
const TURN_ELEMENTS = 2 ** 20;

/** How a payload is cut into tensors. Batches of the same form share one object, so work on it can be kept by identity. */
export interface TensorLayout {
  readonly tensors: readonly PlacedTensor[];
  /** Bytes of the payload. */
  readonly byteLength: number;
  /** Float32 elements of all tensors together, taken in one after the other. */
  readonly elements: number;
  /** Where encoded elements lie in blocks while they are decoded, so that they stay in cache. */
  readonly stagingAt: number;
  /** Where the places of row numbers stand while rows are added up. */
  readonly tableAt: number;
  /** Bytes that a batch needs when it is taken in: its elements, its row numbers, and room to decode and to add rows up. */
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
  const tableAt = plain ? rowsAt : rowsAt + STAGING_BYTES;
  const mostRows = tensors.reduce((most, { rows }) => Math.max(most, rows?.count ?? 0), 0);
  const roomBytes = tableAt + (mostRows > 0 ? 4 * 2 ** tableBits(mostRows) : 0);
  return { tensors: placed, byteLength, elements, stagingAt: rowsAt, tableAt, roomBytes, plain };
}

/** The row numbers of a tensor that were taken in: each is there once. */
export interface TakenRows {
  readonly count: number;
  readonly least: number;
  readonly largest: number;
}

/** What a payload came to. */
export interface TakenIn {
  /** Finite exactly when every element is. */
  readonly sumOfSquares: number;
  /** For each tensor its rows, or null where it is dense; null where all are. */
  readonly rows: readonly (TakenRows | null)[] | null;
}

/**
 * Takes a payload in, yielding now and then: its elements as float32 at `address` of the arena, in the layout's places, and
 * its row numbers behind them as int32. Rows with the same number are added up in the order in which they come, so that the
 * norm is that of the gradient which they make together; what they leave free is zeroed.
 */
export function* takingIn(arena: Arena, address: number, layout: TensorLayout, payload: Uint8Array): Generator<void, TakenIn> {
  const { kernels, bytes } = arena;
  if (layout.plain) {
    const atOnce = copyAndSquareAtOnce(kernels, bytes, address, payload);
    return { sumOfSquares: atOnce ?? (yield* copyingAndSquaring(kernels, bytes, address, payload)), rows: null };
  }
  const rows: (TakenRows | null)[] = [];
  for (const tensor of layout.tensors) {
    decode(arena, address, layout, tensor, payload);
    rows.push(tensor.rows ? takeRows(arena, address, layout, tensor, payload) : null);
    if (tensor.length > TURN_ELEMENTS) yield;
  }
  return { sumOfSquares: sumOfSquares(kernels, address, layout.elements), rows: rows.some((taken) => taken) ? rows : null };
}

/** As {@link takingIn}, in one go. */
export function takeIn(arena: Arena, address: number, layout: TensorLayout, payload: Uint8Array): TakenIn {
  const taking = takingIn(arena, address, layout, payload);
  let result = taking.next();
  while (!result.done) result = taking.next();
  return result.value;
}

/** Why gradients that were taken in cannot be used, since some are not finite; or null. */
export function refuseNotFinite(
  { kernels }: Arena,
  address: number,
  { tensors }: TensorLayout,
  { sumOfSquares }: TakenIn,
): ((where: string) => RxgradError<'notFinite'>) | null {
  // Squares of float32 cannot overflow float64: the sum is finite exactly when every gradient is.
  if (Number.isFinite(sumOfSquares)) return null;
  const parameters = tensors
    .filter(({ at, length }) => !Number.isFinite(kernels.sumOfSquares(address + at, length)))
    .map(({ name }) => `"${name}"`);
  return (where) => new RxgradError('notFinite', { where, parameters: parameters.join(', ') });
}

/** By how much the norm may grow when elements are rounded to a type; of F32, what float32 sums of squares are off. */
const normSlack: Readonly<Record<ElementType, number>> = { F32: 1e-4, BF16: 2 ** -8, F16: 1, I8: 1 };

/**
 * Why what a producer calls the norm of the whole gradient cannot be that, or null. One that is too large cannot be told by who
 * has a part.
 */
export function refuseNorm(
  norm: number | undefined,
  { tensors }: TensorLayout,
  { sumOfSquares }: TakenIn,
): ((where: string) => RxgradError<'wrongNorm'>) | null {
  if (norm === undefined) return null;
  const own = Math.sqrt(sumOfSquares);
  const slack = tensors.reduce((most, { dtype }) => Math.max(most, normSlack[dtype]), normSlack.F32);
  if (Number.isFinite(norm) && own <= norm * (1 + slack)) return null;
  return (where) => {
    const expected = `a finite number of at least ${own} (that of the tensors here)`;
    return new RxgradError('wrongNorm', { where, expected, got: norm });
  };
}

/** Elements of a tensor's row; of a dense one too, whose rows lie along its first axis. */
export function widthOf({ length, rows, dims }: TensorSpec): number {
  const count = rows?.count ?? dims?.[0] ?? 1;
  return count === 0 ? 0 : length / count;
}

function decode(arena: Arena, address: number, layout: TensorLayout, tensor: PlacedTensor, payload: Uint8Array): void {
  const { dtype, begin, length, scale } = tensor;
  const { kernels, bytes } = arena;
  const to = address + tensor.at;
  if (dtype === 'F32') {
    copyBytes(payload, bytes, to, begin, begin + 4 * length);
    return;
  }
  const staging = address + layout.stagingAt;
  if (dtype === 'I8') {
    const factors = new DataView(payload.buffer, payload.byteOffset + scale!.begin, 4 * scale!.length);
    const width = scale!.length === 1 ? length : widthOf(tensor);
    for (let i = 0, at = 0; at < length; i++, at += width) {
      const factor = factors.getFloat32(4 * i, true);
      inBlocks(begin + at, width, 1, (from, count, done) => {
        copyBytes(payload, bytes, staging, from, from + count);
        kernels.decodeI8(staging, to + 4 * (at + done), count, factor);
      });
    }
    return;
  }
  const run = dtype === 'F16' ? kernels.decodeF16 : kernels.decodeBF16;
  inBlocks(begin, length, 2, (from, count, done) => {
    copyBytes(payload, bytes, staging, from, from + 2 * count);
    run(staging, to + 4 * done, count);
  });
}

/** Cuts a part of the payload into blocks that fit the staging place. */
function inBlocks(
  begin: number,
  length: number,
  elementBytes: number,
  run: (from: number, count: number, done: number) => void,
): void {
  const block = STAGING_BYTES / elementBytes;
  for (let done = 0; done < length; done += block) run(begin + elementBytes * done, Math.min(block, length - done), done);
}

function takeRows(arena: Arena, address: number, layout: TensorLayout, tensor: PlacedTensor, payload: Uint8Array): TakenRows {
  const { begin, count, dtype } = tensor.rows!;
  const { kernels, bytes, memory } = arena;
  const to = address + tensor.rowsAt;
  if (dtype === 'I32') copyBytes(payload, bytes, to, begin, begin + 4 * count);
  else {
    inBlocks(begin, count, 8, (from, length, done) => {
      copyBytes(payload, bytes, address + layout.stagingAt, from, from + 8 * length);
      kernels.decodeI64(address + layout.stagingAt, to + 4 * done, length);
    });
  }
  const numbers = new Int32Array(memory.buffer, to, count);
  if (count === 0) return { count, least: 0, largest: -1 };
  if (kernels.isRising(to, count) !== 0) return { count, least: numbers[0]!, largest: numbers[count - 1]! };
  return addUpRows(arena, address + tensor.at, widthOf(tensor), numbers, address + layout.tableAt);
}

/** Adds each row to the first one with its number. */
function addUpRows({ kernels }: Arena, values: number, width: number, numbers: Int32Array, table: number): TakenRows {
  const { byteOffset, length } = numbers;
  const count = kernels.addUpRows(byteOffset, values, length, width, table, tableBits(length), multiplier);
  let [least, largest] = [numbers[0]!, numbers[0]!];
  for (let i = 1; i < count; i++) {
    const number = numbers[i]!;
    if (number < least) least = number;
    else if (number > largest) largest = number;
  }
  return { count, least, largest };
}

/** Odd, and not to be foreseen. */
const multiplier = Math.floor(2 ** 31 * Math.random()) * 2 + 1;

/** Of a table that is at most half full. */
function tableBits(count: number): number {
  return Math.max(1, Math.ceil(Math.log2(2 * count)));
}
