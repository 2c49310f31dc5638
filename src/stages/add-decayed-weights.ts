import type { OperatorFunction } from 'rxjs';
import type { TrainingEvent } from '../events.ts';
import { nonNegative } from '../options.ts';
import type { WeightsByName } from '../pending.ts';
import { parseSetting, type Setting } from '../setting.ts';
import { stage } from './stage.ts';

/**
 * Adds coupled L2 decay: g ← g + decay · θ, with the weights that the step starts from. As optax.add_decayed_weights.
 *
 * Only who reads the gradients behind it, before the scan, has to give the weights: `addDecayedWeights(1e-4, params)`.
 *
 * A setting may differ by parameter: `{ '*.bias': 0, '*': 1e-4 }`.
 */
export function addDecayedWeights(decay: Setting, params?: WeightsByName): OperatorFunction<TrainingEvent, TrainingEvent> {
  return stage({
    op: 'addDecayedWeights',
    decay: parseSetting(nonNegative, decay, 'addDecayedWeights', 0),
    params: params ?? null,
  });
}
