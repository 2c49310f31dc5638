import { map, type OperatorFunction } from 'rxjs';
import { GradientBatch, type TrainingEvent } from '../events.ts';
import { channels } from '../observe/channels.ts';
import type { Operation, Pending } from '../pending.ts';

/**
 * Lifts an operation on gradients to an operator. It is lazy: the operation is noted on the batch, and the scan does all of
 * them in one pass. Events other than gradients go through untouched.
 */
export function stage(operation: Operation): OperatorFunction<TrainingEvent, TrainingEvent> {
  // Batches behind the same stages share their list of operations, so that the scan knows a chain by identity.
  let link: Pending = { operation, previous: null };
  return map((event) => {
    if (!(event instanceof GradientBatch)) return event;
    if (link.previous !== event.pending) link = { operation, previous: event.pending };
    const batch = new GradientBatch(event.message, link);
    if (channels.stage.hasSubscribers) channels.stage.publish({ kind: 'stage', at: operation.op, batch });
    return batch;
  });
}
