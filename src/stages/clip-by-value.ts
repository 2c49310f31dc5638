import type { OperatorFunction } from 'rxjs';
import type { TrainingEvent } from '../events.ts';
import { parseOptions, positive } from '../options.ts';
import { stage } from './stage.ts';

/** Limits every element: g ← min(max(g, −limit), limit). As optax.clip. */
export function clipByValue(limit: number): OperatorFunction<TrainingEvent, TrainingEvent> {
  return stage({ op: 'clipByValue', limit: parseOptions(positive, limit, 'clipByValue') });
}
