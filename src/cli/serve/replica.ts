import type { Logger } from 'pino';
import { defer, retry, tap, timer } from 'rxjs';
import { isRxgradError } from '../../errors.ts';
import type { Rejection } from '../../events.ts';
import { hotSwap, type Swappable } from '../../sinks/hot-swap.ts';
import type { Transport } from '../../sources/transport.ts';
import { weightsFrom } from '../../weights/weights-from.ts';

export interface WeightsPlace {
  readonly topic: string;
  readonly model: string;
  readonly requests: string | undefined;
}

/** What a replica is at. */
export interface FollowingStatus {
  readonly topic: string;
  readonly model: string;
  /** `waiting` for the first weights, `following`, `interrupted` while they do not come, or `otherWeights`: see the problem. */
  readonly state: 'waiting' | 'following' | 'interrupted' | 'otherWeights';
  readonly problem: string | null;
}

export interface Following {
  /** What it is at now. */
  readonly status: FollowingStatus;
  /** Resolves when the first weights are live, or when it was stopped before. Fails where there is nothing to wait for. */
  readonly first: Promise<void>;
  stop(): void;
}

const SOONEST_AGAIN_MS = 1000;
const LATEST_AGAIN_MS = 30_000;

/** Keeps a session at the weights that are published. When their log is away, the last ones stay, until it is back. */
export function followWeights(
  transport: Transport,
  { topic, model, requests }: WeightsPlace,
  session: Swappable & { readonly version: number },
  log: Logger,
): Following {
  let isFirst = true;
  let status: FollowingStatus = { topic, model, state: 'waiting', problem: null };
  const become = (state: FollowingStatus['state'], problem: string | null = null): void => {
    status = { topic, model, state, problem };
  };
  const refused = ({ error }: Rejection): void => {
    const isKnown = status.state === 'otherWeights' && error.key === 'otherWeights';
    if (error.key === 'otherWeights') become('otherWeights', error.message);
    log[isKnown ? 'debug' : 'warn']({ topic, model, reason: error.message }, 'weights are of no use');
  };
  const { promise: first, resolve, reject } = Promise.withResolvers<void>();
  const weights$ = weightsFrom(transport, {
    topic,
    model,
    into: session.params,
    ...(requests === undefined ? {} : { requests }),
    rejections: { next: refused },
  });
  const following = defer(() => weights$)
    .pipe(
      hotSwap(session),
      tap(({ version }) => {
        log.debug({ model, version }, 'weights');
        become('following');
        if (isFirst) resolve();
        isFirst = false;
      }),
      retry({
        resetOnSuccess: true,
        delay(error: unknown, failures) {
          // What is wrong from the beginning on does not mend itself.
          if (isFirst && !(isRxgradError(error) && error.disposition === 'retry')) throw error;
          const againMs = Math.min(LATEST_AGAIN_MS, SOONEST_AGAIN_MS * 2 ** (failures - 1));
          const problem = error instanceof Error ? error.message : String(error);
          become('interrupted', problem);
          log.warn({ topic, model, version: session.version, problem, againMs }, 'weights do not come; the last ones stay');
          return timer(againMs);
        },
      }),
    )
    .subscribe({ error: reject });
  return {
    first,
    get status() {
      return status;
    },
    stop() {
      following.unsubscribe();
      resolve();
    },
  };
}
