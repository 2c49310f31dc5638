import type { OperatorFunction } from 'rxjs';
import type { TrainingEvent } from '../events.ts';
import { positive } from '../options.ts';
import { parseSetting, type Setting } from '../setting.ts';
import { stage } from './stage.ts';

/** Limits every element: g ← min(max(g, −limit), limit). As optax.clip. *
 * A setting may differ by parameter: `{ 'head.*': 1, '*': 0.5 }`.
 */
export function clipByValue(limit: Setting): OperatorFunction<TrainingEvent, TrainingEvent> {
  return stage({ op: 'clipByValue', limit: parseSetting(positive, limit, 'clipByValue', Number.POSITIVE_INFINITY) });
}
