import type { OperatorFunction } from 'rxjs';
import type { TrainingEvent } from '../events.ts';
import { nonNegative, parseOptions } from '../options.ts';
import type { WeightsByName } from '../pending.ts';
import { stage } from './stage.ts';

/**
 * Adds coupled L2 decay: g ← g + decay · θ, with the weights that the step starts from. As optax.add_decayed_weights.
 *
 * Only who reads the gradients behind it, before the scan, has to give the weights: `addDecayedWeights(1e-4, params)`.
 */
export function addDecayedWeights(decay: number, params?: WeightsByName): OperatorFunction<TrainingEvent, TrainingEvent> {
  return stage({
    op: 'addDecayedWeights',
    decay: parseOptions(nonNegative, decay, 'addDecayedWeights'),
    params: params ?? null,
  });
}
