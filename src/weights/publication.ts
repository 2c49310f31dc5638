import { type RejectionReason, RxgradError } from '../errors.ts';
import type { Position } from '../events.ts';
import { type FilePiece, rowNumbers, type WeightsFile } from './weights-file.ts';
import type { WeightsFacts } from './weights-header.ts';

/** Why a publication cannot be used, made into an error where its place is known. */
export type Problem = (where: string) => RxgradError<RejectionReason>;

/** The parameters of a shard, by the publisher's names. */
export type Shapes = ReadonlyMap<string, readonly number[]>;

/** All parts of what a shard published at once. */
export interface Publication {
  readonly facts: WeightsFacts;
  readonly files: readonly WeightsFile[];
  readonly bytes: number;
  /** Where its last part stood. */
  readonly position: Position;
  /** Of the last snapshot, this one or before. */
  readonly shapes: Shapes;
}

/** Reads a snapshot's shapes off its pieces, which have to be all of each parameter; or tells what is wrong. */
export function shapesOf(files: readonly WeightsFile[], maxBytes: number): Shapes | Problem {
  const pieces = Map.groupBy(
    files.flatMap((file) => file.pieces),
    ({ name }) => name,
  );
  const shapes = new Map<string, readonly number[]>();
  let bytes = 0;
  for (const [name, all] of pieces) {
    const [{ whole }] = all as [FilePiece];
    const size = sizeOf(whole);
    const alike = all.every((piece) => !piece.rows && String(piece.whole) === String(whole));
    if (!alike || !areDisjoint(all) || all.reduce((sum, { length }) => sum + length, 0) !== size) {
      return undecodable(`all ${size} elements of "${name}" once in a snapshot`, `${all.length} pieces that are not`);
    }
    bytes += 4 * size;
    if (bytes > maxBytes) return undecodable(`weights of at most ${maxBytes} bytes`, 'more');
    shapes.set(name, whole);
  }
  return shapes;
}

/** How a delta does not fit the shapes of its snapshot, or null. */
export function misfit(files: readonly WeightsFile[], shapes: Shapes): Problem | null {
  for (const { pieces, payload } of files) {
    for (const piece of pieces) {
      const own = shapes.get(piece.name);
      if (!own) return undecodable('parameters of the snapshot', `"${piece.name}"`);
      const expected = piece.rows ? [0, ...own.slice(1)] : own;
      if (String(piece.whole) !== String(expected) || own.length !== piece.whole.length) {
        return undecodable(`"${piece.name}" with dims [${own}]`, `[${piece.whole}]`);
      }
      if (piece.rows && !areRows(rowNumbers(piece, payload), own[0]!)) {
        return undecodable(`rising row numbers of "${piece.name}" from 0 to ${own[0]! - 1}`, 'others');
      }
    }
  }
  const dense = files.flatMap((file) => file.pieces).filter(({ rows }) => !rows);
  const overlapping = [...Map.groupBy(dense, ({ name }) => name)].find(([, all]) => !areDisjoint(all))?.[0];
  return overlapping === undefined ? null : undecodable(`each element of "${overlapping}" once`, 'some twice');
}

/** Bytes of memory that a file's tensors come to, and what they are read from. */
export function heldBytes({ pieces, payload }: WeightsFile): number {
  return payload.byteLength + pieces.reduce((sum, { name }) => sum + 2 * name.length + 200, 0);
}

/** Elements of a parameter that are there as such, not as rows. */
export function denseElements(files: readonly WeightsFile[], name: string): number {
  const own = files.flatMap(({ pieces }) => pieces.filter((piece) => piece.name === name && !piece.rows));
  return own.reduce((sum, { length }) => sum + length, 0);
}

export function sizeOf(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

function areRows(numbers: Int32Array, rows: number): boolean {
  return numbers.every((row, i) => row > (numbers[i - 1] ?? -1) && row < rows);
}

function areDisjoint(pieces: readonly FilePiece[]): boolean {
  const sorted = pieces.toSorted((a, b) => a.from - b.from);
  return sorted.every(({ from }, i) => i === 0 || from >= sorted[i - 1]!.from + sorted[i - 1]!.length);
}

function undecodable(expected: string, got: string): Problem {
  return (where) => new RxgradError('undecodable', { where, expected, got });
}
