import type { OperatorFunction } from 'rxjs';
import type { TrainingEvent } from '../events.ts';
import { parsePolicy, type StalenessPolicy } from '../staleness.ts';
import { stage } from './stage.ts';

/**
 * Deals with gradients of older weights: drops them above a number of versions τ, scales them by 1 / (1 + τ), or compensates
 * the delay. τ is the version that a batch meets in the scan, less its `base`; a batch without one counts as fresh. Several
 * policies may follow each other.
 *
 * How stale a batch is shows when the scan takes it. So gradients that were scaled or compensated cannot be read before it, nor
 * merged: `accumulate` goes in front, and what it merged is as stale as its oldest part.
 *
 * Zhang et al., "Staleness-Aware Async-SGD for Distributed Deep Learning" (2016); Zheng et al., "Asynchronous Stochastic
 * Gradient Descent with Delay Compensation" (2017).
 *
 * @example
 * gradients$.pipe(staleness({ type: 'drop', above: 64 }), staleness({ type: 'scale' }), momentum(params))
 */
export function staleness(policy: StalenessPolicy): OperatorFunction<TrainingEvent, TrainingEvent> {
  return stage({ op: 'staleness', policy: parsePolicy(policy, 'staleness') });
}
