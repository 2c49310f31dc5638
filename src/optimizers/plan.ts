import { type RejectionReason, RxgradError } from '../errors.ts';
import type { Parameters } from '../params/parameters.ts';
import type { ParameterPlace } from '../params/weights-reader.ts';
import type { TensorLayout } from '../payload.ts';
import { type Operation, operationsOf, type Pending } from '../pending.ts';

/** One parameter's part of a step: `at` counts bytes from the start of the gradients. */
export interface Run {
  readonly index: number;
  readonly place: ParameterPlace;
  readonly at: number;
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
  if (layout.tensors.length === 0) return (where) => new RxgradError('emptyBatch', { where });
  const indices = new Map(params.places.map((place, index) => [place.name, index]));
  const runs: Run[] = [];
  const frozen: Run[] = [];
  for (const { name, dims, length, at, rows } of layout.tensors) {
    const index = indices.get(name);
    if (index === undefined) {
      return (where) => new RxgradError('unknownParameter', { where, parameter: name, expected: params.names.join(', ') });
    }
    if (rows)
      return (where) => new RxgradError('wrongType', { where, parameter: name, expected: 'dense gradients', got: 'rows' });
    const place = params.places[index]!;
    if (length !== place.length || (dims !== null && !sameDims(dims, place.dims))) {
      const got = dims !== null && sameDims(dims, place.dims) ? `${length} values` : String(dims ?? length);
      return (where) => new RxgradError('wrongShape', { where, parameter: name, expected: String(place.dims), got });
    }
    (isFrozen(index) ? frozen : runs).push({ index, place, at });
  }
  const touched = new Set(runs.map(({ index }) => index));
  return {
    runs,
    frozen,
    untouched: params.places.map((place, index) => ({ index, place })).filter(({ index }) => !touched.has(index)),
  };
}

/** What comes before the rule for one parameter: clip(g · scale, ±limit) + decay · θ, the scale from the norm's limit. */
export interface FusedPrologue {
  readonly maxNorm: number;
  readonly limit: number;
  readonly decay: number;
}

/** Pending operations as a scan does them: some one by one, then the rest in one pass with the rule. */
export interface Prologue {
  readonly before: readonly Operation[];
  of(parameter: string): FusedPrologue;
}

const canonicalOrder = ['clipByGlobalNorm', 'clipByValue', 'addDecayedWeights'] as const;

/** Clip by global norm, then by value, then decay, each at most once, fuses; what comes before such an end is done by itself. */
export function prologueFor(pending: Pending | null): Prologue {
  const operations = operationsOf(pending);
  let first = operations.length;
  let rank: number = canonicalOrder.length;
  while (first > 0 && canonicalOrder.indexOf(operations[first - 1]!.op) < rank) {
    first -= 1;
    rank = canonicalOrder.indexOf(operations[first]!.op);
  }
  const fused = operations.slice(first);
  const known = new Map<string, FusedPrologue>();
  return {
    before: operations.slice(0, first),
    of(parameter) {
      let prologue = known.get(parameter);
      if (!prologue) {
        prologue = fusedFor(fused, parameter);
        known.set(parameter, prologue);
      }
      return prologue;
    },
  };
}

function fusedFor(operations: readonly Operation[], parameter: string): FusedPrologue {
  const fused = { maxNorm: Number.POSITIVE_INFINITY, limit: Number.POSITIVE_INFINITY, decay: 0 };
  for (const operation of operations) {
    if (operation.op === 'clipByGlobalNorm') fused.maxNorm = operation.maxNorm.of(parameter);
    else if (operation.op === 'clipByValue') fused.limit = operation.limit.of(parameter);
    else fused.decay = operation.decay.of(parameter);
  }
  return fused;
}

function sameDims(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}
