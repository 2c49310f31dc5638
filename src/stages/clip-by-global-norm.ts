import type { OperatorFunction } from 'rxjs';
import type { TrainingEvent } from '../events.ts';
import { positive } from '../options.ts';
import { parseSetting, type Setting } from '../setting.ts';
import { stage } from './stage.ts';

/**
 * Limits the Euclidean norm over all gradients of a batch: g ← g · maxNorm / ‖g‖ where ‖g‖ ≥ maxNorm.
 *
 * Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013); optax.clip_by_global_norm.
 *
 * The norm is what the producer says it is, where it does, if nothing changed the gradients since: they may be a shard.
 *
 * A setting may differ by parameter: `{ 'head.*': 5, '*': 1 }`, each held against the one norm of all.
 */
export function clipByGlobalNorm(maxNorm: Setting): OperatorFunction<TrainingEvent, TrainingEvent> {
  return stage({
    op: 'clipByGlobalNorm',
    maxNorm: parseSetting(positive, maxNorm, 'clipByGlobalNorm', Number.POSITIVE_INFINITY),
  });
}
