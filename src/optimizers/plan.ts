import { type RejectionReason, RxgradError } from '../errors.ts';
import type { Parameters } from '../params/parameters.ts';
import type { ParameterPlace } from '../params/weights-reader.ts';
import { type Operation, operationsOf, type Pending, type TensorLayout } from '../pending.ts';

/** One parameter's part of a step: `gradient` counts bytes from the start of the payload. */
export interface Run {
  readonly index: number;
  readonly place: ParameterPlace;
  readonly gradient: number;
}

/** What a batch of some layout means for some parameters: what to step, and what stays as it is. */
export interface Plan {
  readonly runs: readonly Run[];
  readonly untouched: readonly ParameterPlace[];
}

/** Why a batch cannot be applied. Made into an error where the batch's place is known. */
export type Refusal = (where: string) => RxgradError<RejectionReason>;

/** Matches a layout with the parameters: names and shapes. */
export function planFor(params: Parameters, layout: TensorLayout): Plan | Refusal {
  if (layout.tensors.length === 0) return (where) => new RxgradError('emptyBatch', { where });
  const indices = new Map(params.places.map((place, index) => [place.name, index]));
  const runs: Run[] = [];
  for (const { name, dims, length, begin } of layout.tensors) {
    const index = indices.get(name);
    if (index === undefined) {
      return (where) => new RxgradError('unknownParameter', { where, parameter: name, expected: params.names.join(', ') });
    }
    const place = params.places[index]!;
    if (length !== place.length || (dims !== null && !sameDims(dims, place.dims))) {
      const got = dims !== null && sameDims(dims, place.dims) ? `${length} values` : String(dims ?? length);
      return (where) => new RxgradError('wrongShape', { where, parameter: name, expected: String(place.dims), got });
    }
    runs.push({ index, place, gradient: begin });
  }
  const touched = new Set(runs.map(({ index }) => index));
  return { runs, untouched: params.places.filter((_, index) => !touched.has(index)) };
}

/** The pending operations as the fused kernels take them; `others` where they are not in the canonical order. */
export interface Prologue {
  readonly maxNorm: number;
  readonly limit: number;
  readonly decay: number;
  readonly others: readonly Operation[] | null;
}

const canonicalOrder = ['clipByGlobalNorm', 'clipByValue', 'addDecayedWeights'] as const;

/** Clip by global norm, then by value, then decay, each at most once, fuses; anything else is done one by one. */
export function prologueFor(pending: Pending | null): Prologue {
  const operations = operationsOf(pending);
  const ranks = operations.map(({ op }) => canonicalOrder.indexOf(op));
  const fused = { maxNorm: Number.POSITIVE_INFINITY, limit: Number.POSITIVE_INFINITY, decay: 0 };
  if (ranks.some((rank, i) => i > 0 && rank <= ranks[i - 1]!)) return { ...fused, others: operations };
  for (const operation of operations) {
    if (operation.op === 'clipByGlobalNorm') fused.maxNorm = operation.maxNorm;
    else if (operation.op === 'clipByValue') fused.limit = operation.limit;
    else fused.decay = operation.decay;
  }
  return { ...fused, others: null };
}

function sameDims(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}
