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
 * Makes the weights of each update live in a session, or their average where there is one, and passes the update on. Where
 * those are the session's own parameters this is the flip of an index; others of the same names are copied over.
 */
export function hotSwap(session: Swappable): MonoTypeOperatorFunction<WeightsUpdate> {
  return tap((update) => {
    const start = performance.now();
    const served = update.average ?? update.params;
    if (served === session.params) session.swap();
    else session.params.load(served.latest, { version: update.version });
    update.swapMs = performance.now() - start;
    if (channels.swap.hasSubscribers) {
      channels.swap.publish({ kind: 'swap', at: 'hotSwap', version: update.version, durationMs: update.swapMs });
    }
  });
}
