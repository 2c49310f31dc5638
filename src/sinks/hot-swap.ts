import { type MonoTypeOperatorFunction, tap } from 'rxjs';
import { channels } from '../observe/channels.ts';
import type { WeightsUpdate } from '../optimizers/weights-update.ts';
import type { Parameters } from '../params/parameters.ts';

/** What can change to other weights while it serves. */
export interface Swappable {
  readonly params: Parameters;
  swap(): void;
}

/**
 * Makes the weights of each update live in a session, and passes the update on. Where the scan steps the session's own
 * parameters this is the flip of an index; other parameters of the same names are copied over.
 */
export function hotSwap(session: Swappable): MonoTypeOperatorFunction<WeightsUpdate> {
  return tap((update) => {
    const start = performance.now();
    if (update.params === session.params) session.swap();
    else session.params.load(update.weights, { version: update.version });
    update.swapMs = performance.now() - start;
    if (channels.swap.hasSubscribers) {
      channels.swap.publish({ kind: 'swap', at: 'hotSwap', version: update.version, durationMs: update.swapMs });
    }
  });
}
