import type { Touched } from '../params/changes.ts';
import type { ParameterPlace } from '../params/weights-reader.ts';

/** How weights can be written. */
export type WeightsType = 'F32' | 'F16' | 'BF16';

export const weightsBytes: Readonly<Record<WeightsType, number>> = { F32: 4, F16: 2, BF16: 2 };

/** Some weights of a parameter: `length` elements from element `from`, or these rows. */
export interface Piece {
  readonly place: ParameterPlace;
  readonly from: number;
  readonly length: number;
  readonly rows: Int32Array | null;
}

/** Bytes that a header may have: one with more is not read. */
export const MOST_HEADER_BYTES = 4 << 20;
/** Bytes of a header beside its tensors. */
const HEADER_BYTES = 512;

/**
 * Cuts weights into parts of at most so many bytes: parameters whole where they fit, else ranges of elements, or fewer of the
 * rows. There is always a part, and every parameter of `touched` is in one.
 */
export function cut(places: readonly ParameterPlace[], touched: Touched, type: WeightsType, maxBytes: number): Piece[][] {
  const parts: Piece[][] = [];
  let names = new Set<string>();
  let room = 0;
  let headerRoom = 0;
  const open = (): void => {
    parts.push([]);
    names = new Set();
    room = maxBytes - HEADER_BYTES;
    headerRoom = MOST_HEADER_BYTES - HEADER_BYTES;
  };
  const add = (piece: Piece, bytes: number): void => {
    for (const name of namesIn(piece)) names.add(name);
    parts.at(-1)!.push(piece);
    room -= bytes + entryBytes(piece.place);
    headerRoom -= entryBytes(piece.place);
  };
  open();
  for (const [index, touchedRows] of touched) {
    const place = places[index]!;
    for (const whole of wholesOf(place, touchedRows, type, maxBytes)) {
      const { rows } = whole;
      const bytesEach = rows ? bytesOfRow(place, type) : weightsBytes[type];
      const count = rows ? rows.length : whole.length;
      for (let done = 0, ended = false; !ended; ) {
        const fitting = Math.floor((room - entryBytes(place)) / bytesEach);
        const taken = Math.min(count - done, fitting);
        const isFirst = parts.at(-1)!.length === 0;
        const isFull = (taken <= 0 && count > 0) || headerRoom < entryBytes(place);
        if (!isFirst && (isFull || namesIn(whole).some((name) => names.has(name)))) {
          open();
          continue;
        }
        const next = Math.min(count, done + Math.max(1, taken));
        const width = rows ? widthOf(place) : 1;
        const piece = rows
          ? { place, from: 0, length: (next - done) * width, rows: rows.subarray(done, next) }
          : { place, from: whole.from + done, length: next - done, rows: null };
        add(piece, (next - done) * bytesEach);
        done = next;
        ended = done === count;
      }
    }
  }
  return parts;
}

/** Bytes of the weights that changed, or of all. */
export function touchedBytes(places: readonly ParameterPlace[], touched: Touched, type: WeightsType): number {
  let bytes = 0;
  for (const [index, rows] of touched) {
    const place = places[index]!;
    bytes += rows ? rows.length * bytesOfRow(place, type) : place.length * weightsBytes[type];
  }
  return bytes;
}

/** Elements of a row. */
export function widthOf({ dims, length }: Pick<ParameterPlace, 'dims' | 'length'>): number {
  return dims[0] ? length / dims[0] : 0;
}

/** What the file's parts are called. */
export function namesIn({ place: { name }, rows }: Piece): string[] {
  return rows ? [`${name}.indices`, `${name}.values`] : [name];
}

/** Rows that are larger than a part go by themselves, as ranges. */
function wholesOf(place: ParameterPlace, rows: Int32Array | null, type: WeightsType, maxBytes: number): Piece[] {
  if (!rows) return [{ place, from: 0, length: place.length, rows: null }];
  const width = widthOf(place);
  if (bytesOfRow(place, type) <= (maxBytes - HEADER_BYTES - entryBytes(place)) / 2) {
    return [{ place, from: 0, length: rows.length * width, rows }];
  }
  return Array.from(rows, (row) => ({ place, from: row * width, length: width, rows: null }));
}

function bytesOfRow(place: ParameterPlace, type: WeightsType): number {
  return 4 + widthOf(place) * weightsBytes[type];
}

/** At most what a header says of a tensor, or of rows and their numbers. */
function entryBytes({ name, dims }: ParameterPlace): number {
  return 2 * (Buffer.byteLength(JSON.stringify(name)) + 100 + 16 * dims.length);
}
