import { type Operation, operationsOf, type Pending } from '../pending.ts';

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
