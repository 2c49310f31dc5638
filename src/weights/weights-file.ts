import type { Arena } from '../kernels/arena.ts';
import { copyBytes } from '../kernels/kernels.ts';
import { tensorFileHeader } from '../params/tensor-file.ts';
import type { TensorSpec } from '../payload.ts';
import { encodeElements } from '../sources/encode-tensors.ts';
import { excerpt } from '../sources/excerpt.ts';
import { parseHeader, type SafetensorsProblem, undecodable } from '../sources/safetensors-header.ts';
import { MOST_HEADER_BYTES, namesIn, type Piece, type WeightsType, weightsBytes, widthOf } from './cut.ts';

/** The metadata's names: where ranges lie, and what there is to say of the step. */
const CUTS = 'rxgrad.cuts';
const STEP = 'rxgrad.step';

/** Where a range lies: from an element on, in a tensor of these dims. */
interface CutEntry {
  readonly dims: readonly number[];
  readonly from: number;
}

/** A tensor of a file that was read: a range of a parameter's elements, or rows of it. */
export interface FilePiece extends TensorSpec {
  /** The parameter's dims; of rows: 0 in place of their number. */
  readonly whole: readonly number[];
  readonly from: number;
}

/** A file that was read. */
export interface WeightsFile {
  readonly pieces: readonly FilePiece[];
  readonly payload: Uint8Array;
  readonly step: Readonly<Record<string, unknown>>;
}

/**
 * Copies pieces of the weights at an address, now, and returns what writes them as a safetensors file. A parameter that is cut
 * is there as a list of elements, and the metadata tell where they lie.
 */
export function copyPieces(
  arena: Arena,
  weights: number,
  pieces: readonly Piece[],
  type: WeightsType,
  step: Readonly<Record<string, unknown>> | null,
): () => Uint8Array {
  const entries: [string, object][] = [];
  const cuts: Record<string, CutEntry> = {};
  let end = 0;
  const add = (name: string, dtype: string, shape: readonly number[], byteLength: number): void => {
    entries.push([name, { dtype, shape, data_offsets: [end, end + byteLength] }]);
    end += byteLength;
  };
  for (const piece of pieces) if (piece.rows) add(namesIn(piece)[0]!, 'I32', [piece.rows.length], piece.rows.byteLength);
  const valuesAt = end;
  for (const piece of pieces) {
    const { place, rows, length, from } = piece;
    const isCut = !rows && length < place.length;
    const shape = rows ? [rows.length, ...place.dims.slice(1)] : isCut ? [length] : place.dims;
    if (isCut) cuts[place.name] = { dims: place.dims, from };
    add(namesIn(piece).at(-1)!, type, shape, weightsBytes[type] * length);
  }
  const metadata = {
    ...(step ? { [STEP]: JSON.stringify(step) } : {}),
    ...(Object.keys(cuts).length > 0 ? { [CUTS]: JSON.stringify(cuts) } : {}),
  };
  const header = tensorFileHeader(metadata, entries, MOST_HEADER_BYTES);
  const dataAt = header.byteLength;
  const file = Buffer.allocUnsafeSlow(dataAt + end);
  header.copy(file);
  let at = dataAt;
  for (const { rows } of pieces) {
    if (!rows) continue;
    copyBytes(new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength), file, at);
    at += rows.byteLength;
  }
  const elements = pieces.reduce((sum, { length }) => sum + length, 0);
  const copied = type === 'F32' ? file : Buffer.allocUnsafeSlow(4 * elements);
  copyElements(arena, weights, pieces, copied, type === 'F32' ? dataAt + valuesAt : 0);
  return () => {
    if (copied !== file) {
      const encoded = encodeElements(new Float32Array(copied.buffer, copied.byteOffset, elements), type, 1);
      copyBytes(encoded, file, dataAt + valuesAt);
    }
    return file;
  };
}

/** Reads a file of weights, or tells what is wrong. The bytes stay where they are. */
export function readWeightsFile(value: Uint8Array): WeightsFile | SafetensorsProblem {
  const file = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  const headerBytes = file.byteLength < 8 ? Number.POSITIVE_INFINITY : Number(file.readBigUInt64LE(0));
  if (headerBytes > MOST_HEADER_BYTES || 8 + headerBytes > file.byteLength) {
    return undecodable(
      `a safetensors file, its header of at most ${MOST_HEADER_BYTES} bytes`,
      `${file.byteLength} bytes of others`,
    );
  }
  const text = file.toString('utf8', 8, 8 + headerBytes);
  const layout = parseHeader(text);
  if (typeof layout === 'function') return layout;
  const payload = file.subarray(8 + headerBytes);
  if (payload.byteLength !== layout.byteLength) {
    return undecodable(`${layout.byteLength} bytes of tensor data`, `${payload.byteLength}`);
  }
  const metadata = objectOf((JSON.parse(text) as Record<string, unknown>).__metadata__);
  const cuts = parsed(metadata[CUTS]);
  const pieces: FilePiece[] = [];
  for (const tensor of layout.tensors) {
    const { name, dims, rows, length, dtype } = tensor;
    if (dtype === 'I8') return undecodable(`"${name}" as F32, F16 or BF16`, dtype);
    const own = dims ?? [length];
    if (rows) {
      pieces.push({ ...tensor, whole: [0, ...own.slice(1)], from: 0 });
      continue;
    }
    const cutEntry = Object.hasOwn(cuts, name) ? cuts[name] : undefined;
    if (cutEntry === undefined) {
      pieces.push({ ...tensor, whole: own, from: 0 });
      continue;
    }
    const { dims: whole, from } = objectOf(cutEntry);
    if (!isSizes(whole) || !isSize(from) || from + length > whole.reduce((product, size) => product * size, 1)) {
      return undecodable(`a range of "${name}" in ${CUTS}`, excerpt(String(metadata[CUTS])));
    }
    pieces.push({ ...tensor, whole, from });
  }
  return { pieces, payload, step: parsed(metadata[STEP]) };
}

/** Writes a piece of a file where its parameter's weights lie, `base` elements into them. */
export function writePiece(arena: Arena, address: number, base: number, piece: FilePiece, payload: Uint8Array): void {
  const { begin, length, rows, from } = piece;
  const elementBytes = weightsBytes[piece.dtype as WeightsType];
  if (!rows) {
    writeElements(arena, address + 4 * (base + from), piece, payload, begin, length);
    return;
  }
  const width = widthOf({ dims: [rows.count], length });
  for (const [i, row] of rowNumbers(piece, payload).entries()) {
    writeElements(arena, address + 4 * (base + row * width), piece, payload, begin + i * width * elementBytes, width);
  }
}

/** The row numbers of a piece: copies. */
export function rowNumbers({ rows }: FilePiece, payload: Uint8Array): Int32Array {
  const { begin, count, dtype } = rows!;
  const view = new DataView(payload.buffer, payload.byteOffset);
  return Int32Array.from({ length: count }, (_, i) => {
    if (dtype === 'I32') return view.getInt32(begin + 4 * i, true);
    const wide = view.getBigInt64(begin + 8 * i, true);
    return wide >= 0n && wide < 2n ** 31n ? Number(wide) : -1;
  });
}

const STAGING_ELEMENTS = 8192;

function writeElements(arena: Arena, to: number, { dtype }: FilePiece, payload: Uint8Array, begin: number, length: number): void {
  const { kernels, bytes } = arena;
  if (dtype === 'F32') {
    copyBytes(payload, bytes, to, begin, begin + 4 * length);
    return;
  }
  const staging = stagingOf(arena);
  for (let done = 0; done < length; done += STAGING_ELEMENTS) {
    const count = Math.min(STAGING_ELEMENTS, length - done);
    copyBytes(payload, bytes, staging, begin + 2 * done, begin + 2 * (done + count));
    if (dtype === 'F16') kernels.decodeF16(staging, to + 4 * done, count);
    else kernels.decodeBF16(staging, to + 4 * done, count);
  }
}

const stagings = new WeakMap<Arena, number>();

function stagingOf(arena: Arena): number {
  const known = stagings.get(arena) ?? arena.allocate(2 * STAGING_ELEMENTS);
  stagings.set(arena, known);
  return known;
}

function copyElements(arena: Arena, weights: number, pieces: readonly Piece[], to: Uint8Array, begin: number): void {
  let at = begin;
  for (const { place, from, length, rows } of pieces) {
    const address = weights + place.offset;
    if (rows) copyRows(arena, address, widthOf(place), rows, to, at);
    else copyBytes(arena.bytes, to, at, address + 4 * from, address + 4 * (from + length));
    at += 4 * length;
  }
}

function copyRows({ bytes }: Arena, address: number, width: number, rows: Int32Array, to: Uint8Array, begin: number): void {
  const stride = 4 * width;
  for (const [i, row] of rows.entries()) {
    copyBytes(bytes, to, begin + i * stride, address + row * stride, address + (row + 1) * stride);
  }
}

function parsed(json: unknown): Readonly<Record<string, unknown>> {
  try {
    return objectOf(JSON.parse(String(json ?? '{}')));
  } catch {
    return {};
  }
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.length <= 16 && value.every(isSize);
}
