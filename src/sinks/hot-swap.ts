import { defer, type MonoTypeOperatorFunction, tap } from 'rxjs';
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
 * those are the session's own parameters this is the flip of an index; others of the same names are copied over. Neither waits for
 * predictions. What a gate has
 * chosen goes live instead of the newest weights. Weights that are not finite never go live: the last ones that were stay, and
 * a process warning says so.
 */
export function hotSwap(session: Swappable): MonoTypeOperatorFunction<WeightsUpdate> {
  return (updates$) =>
    defer(() => {
      let warned = false;
      return updates$.pipe(
        tap((update) => {
          const served = update.average ?? update.params;
          if (!update.kept && !served.finite) {
            if (!warned) warnOf(update.version, session.params.liveVersion);
            warned = true;
            return;
          }
          warned = false;
          const start = performance.now();
          swapTo(update, served, session);
          update.swapMs = performance.now() - start;
          if (channels.swap.hasSubscribers) {
            channels.swap.publish({ kind: 'swap', at: 'hotSwap', version: update.version, durationMs: update.swapMs });
          }
        }),
      );
    });
}

function swapTo({ kept, version, position }: WeightsUpdate, served: Parameters, session: Swappable): void {
  if (served !== session.params) {
    const { madeAtMs } = kept ? served.kept.find(kept.version) : served.newest;
    session.params.load(kept ? served.kept.weights(kept.version) : served.latest, { version, position, madeAtMs });
  } else if (kept) served.show(kept);
  else session.swap();
}

function warnOf(version: number, live: number): void {
  const message = `The weights of version ${version} are not finite: version ${live} stays live until finite ones come`;
  process.emitWarning(message, { code: 'RXGRAD_WEIGHTS_NOT_FINITE' });
}
