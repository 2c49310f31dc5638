import { RxgradError } from '../errors.ts';
import { clipOfChanged, type Operation, operationsOf, type Pending } from '../pending.ts';
import type { Compensate, ParsedPolicy } from '../staleness.ts';

/** What comes before the rule for one parameter: clip(g · scale, ±limit) + decay · θ, the scale from the norm's limit. */
export interface FusedPrologue {
  readonly maxNorm: number;
  readonly limit: number;
  readonly decay: number;
}

/** Pending operations as a scan does them: some one by one, then the rest in one pass with the rule. */
export interface Prologue {
  readonly before: readonly Operation[];
  /** What is to become of gradients of older weights. */
  readonly staleness: readonly ParsedPolicy[];
  readonly compensate: Compensate | null;
  /** Whether the global norm is clipped, and if so of gradients as they came or of changed ones. */
  readonly clips: 'not' | 'first' | 'later';
  of(parameter: string): FusedPrologue;
}

const canonicalOrder = ['clipByGlobalNorm', 'clipByValue', 'addDecayedWeights'] as const;

/** The place of an operation in an end that fuses, or −1. */
const rankOf = ({ op }: Operation): number => canonicalOrder.indexOf(op as (typeof canonicalOrder)[number]);

/** Clip by global norm, then by value, then decay, each at most once, fuses; what comes before such an end is done by itself. */
export function prologueFor(pending: Pending | null): Prologue {
  const operations = operationsOf(pending).filter(({ op }) => op !== 'accumulate');
  let first = operations.length;
  let rank: number = canonicalOrder.length;
  for (let next = first - 1; next >= 0 && rankOf(operations[next]!) !== -1 && rankOf(operations[next]!) < rank; next--) {
    first = next;
    rank = rankOf(operations[next]!);
  }
  const fused = operations.slice(first);
  const staleness = operations.flatMap((operation) => (operation.op === 'staleness' ? [operation.policy] : []));
  const [compensate, another] = staleness.filter((policy) => policy.type === 'compensate');
  if (another) {
    const expected = 'delay compensation at most once before a scan';
    throw new RxgradError('invalidOption', { option: 'staleness', expected, got: 'two of it' });
  }
  const known = new Map<string, FusedPrologue>();
  return {
    before: operations.slice(0, first),
    staleness,
    compensate: compensate ?? null,
    clips: clipOfChanged(operations) ? 'later' : operations.some(({ op }) => op === 'clipByGlobalNorm') ? 'first' : 'not',
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
    else if (operation.op === 'addDecayedWeights') fused.decay = operation.decay.of(parameter);
  }
  return fused;
}
