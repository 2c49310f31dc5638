import { type RejectionReason, RxgradError } from '../errors.ts';
import type { Parameters } from '../params/parameters.ts';
import type { ParameterPlace } from '../params/weights-reader.ts';
import type { TakenIn, TensorLayout, TensorSpec } from '../payload.ts';

/** One parameter's part of a step: `at` counts bytes from the start of the gradients. */
export interface Run {
  readonly index: number;
  readonly place: ParameterPlace;
  readonly at: number;
  /** For touched rows: which tensor of the batch they are, where their numbers lie as `at` does, and their elements. */
  readonly rows: { readonly tensor: number; readonly at: number; readonly width: number } | null;
}

/** What a batch of some layout means for some parameters: what to step, and what stays as it is. */
export interface Plan {
  readonly runs: readonly Run[];
  /** What is in the batch, but frozen. */
  readonly frozen: readonly Run[];
  readonly untouched: readonly Pick<Run, 'index' | 'place'>[];
}

/** Why a batch cannot be applied. Made into an error where the batch's place is known. */
export type Refusal = (where: string) => RxgradError<RejectionReason>;

/** Matches a layout with the parameters: names and shapes. What is frozen is left out of the runs. */
export function planFor(params: Parameters, layout: TensorLayout, isFrozen: (index: number) => boolean): Plan | Refusal {
  const indices = new Map(params.places.map((place, index) => [place.name, index]));
  const runs: Run[] = [];
  const frozen: Run[] = [];
  for (const [tensor, { name, at, rowsAt, rows }] of layout.tensors.entries()) {
    const index = indices.get(name);
    if (index === undefined) {
      return (where) => new RxgradError('unknownParameter', { where, parameter: name, expected: params.names.join(', ') });
    }
    const place = params.places[index]!;
    const misfit = misfitOf(layout.tensors[tensor]!, place.dims);
    if (misfit) return (where) => new RxgradError('wrongShape', { where, parameter: name, ...misfit });
    const touched = rows ? { tensor, at: rowsAt, width: sizeOf(place.dims.slice(1)) } : null;
    (isFrozen(index) ? frozen : runs).push({ index, place, at, rows: touched });
  }
  const touched = new Set(runs.map(({ index }) => index));
  return {
    runs,
    frozen,
    untouched: params.places.map((place, index) => ({ index, place })).filter(({ index }) => !touched.has(index)),
  };
}

/** How a tensor does not fit a parameter of some dims, or null. No rows at all fit every table. */
export function misfitOf(
  { dims, length, rows }: TensorSpec,
  own: readonly number[],
): { readonly expected: string; readonly got: string } | null {
  if (!rows) {
    if (length === sizeOf(own) && (dims === null || sameDims(dims, own))) return null;
    return { expected: String(own), got: dims !== null && sameDims(dims, own) ? `${length} values` : String(dims ?? length) };
  }
  const { count } = rows;
  const tail = own.slice(1);
  if (own.length > 0 && (count === 0 || (dims ? sameDims(dims.slice(1), tail) : length === count * sizeOf(tail)))) return null;
  const expected = own.length === 0 ? 'no rows' : String(['rows', ...tail]);
  return { expected, got: String(dims ?? `${length} values in ${count} rows`) };
}

/** Why the row numbers of a batch cannot be stepped, or null. */
export function refuseRows({ runs, frozen }: Plan, { rows: taken }: TakenIn): Refusal | null {
  if (!taken) return null;
  for (const { place, rows } of [...runs, ...frozen]) {
    if (!rows) continue;
    const { least, largest } = taken[rows.tensor]!;
    const last = place.dims[0]! - 1;
    if (least >= 0 && largest <= last) continue;
    const got = least < 0 ? least : largest;
    return (where) => new RxgradError('rowOutOfRange', { where, parameter: place.name, expected: last, got });
  }
  return null;
}

function sizeOf(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

function sameDims(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}
