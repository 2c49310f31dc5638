import type { OperatorFunction } from 'rxjs';
import type { TrainingEvent } from '../events.ts';
import { parseOptions, positive } from '../options.ts';
import { stage } from './stage.ts';

/**
 * Limits the Euclidean norm over all gradients of a batch: g ← g · maxNorm / ‖g‖ where ‖g‖ ≥ maxNorm.
 *
 * Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013); optax.clip_by_global_norm.
 */
export function clipByGlobalNorm(maxNorm: number): OperatorFunction<TrainingEvent, TrainingEvent> {
  return stage({ op: 'clipByGlobalNorm', maxNorm: parseOptions(positive, maxNorm, 'clipByGlobalNorm') });
}
