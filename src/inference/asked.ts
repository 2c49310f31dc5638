import { RxgradError } from '../errors.ts';
import type { Slot } from '../params/left-right.ts';
import type { Feeds, RunResult } from './runner.ts';

/** What a caller says of one prediction. */
export interface AskOptions {
  readonly signal?: AbortSignal | undefined;
  readonly deadlineMs?: number | undefined;
}

/** A prediction that was asked for, and who is to hear of it, once. */
export class Asked {
  readonly feeds: Feeds;
  /** Where the weights lie that it asked for; null for the live ones. */
  readonly slot: Slot | null;
  readonly rows: number;
  /** Predictions of the same can be one run; null for one that runs by itself. */
  readonly signature: string | null;
  /** In `performance.now()` terms. */
  readonly askedAt = performance.now();
  readonly #resolve: (result: RunResult) => void;
  readonly #reject: (error: Error) => void;
  #deadlineAt = Infinity;
  #isSettled = false;
  #forget: (() => void) | null = null;

  constructor(
    { feeds, slot, rows, signature }: Pick<Asked, 'feeds' | 'slot' | 'rows' | 'signature'>,
    resolve: (result: RunResult) => void,
    reject: (error: Error) => void,
  ) {
    this.feeds = feeds;
    this.slot = slot;
    this.rows = rows;
    this.signature = signature;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  /** Whether the caller has an answer, be it that it gave up. */
  get isSettled(): boolean {
    return this.#isSettled;
  }

  /** Whether its time is over. Timers are late where a run has blocked the event loop. */
  isLate(now: number): boolean {
    return now >= this.#deadlineAt;
  }

  /** Calls `giveUp` when the caller does, or its time is over, and not later than it is settled. */
  watch(model: string, { signal, deadlineMs }: AskOptions, giveUp: (asked: Asked, error: RxgradError) => void): void {
    const abort = () => giveUp(this, abortedError(model, signal!));
    signal?.addEventListener('abort', abort, { once: true });
    let timer: NodeJS.Timeout | undefined;
    if (deadlineMs !== undefined) {
      this.#deadlineAt = this.askedAt + deadlineMs;
      timer = setTimeout(() => giveUp(this, new RxgradError('deadlineExceeded', { model, deadlineMs })), deadlineMs);
    }
    this.#forget = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    };
  }

  resolve(result: RunResult): void {
    if (this.#settle()) this.#resolve(result);
  }

  reject(error: Error): void {
    if (this.#settle()) this.#reject(error);
  }

  #settle(): boolean {
    if (this.#isSettled) return false;
    this.#isSettled = true;
    this.#forget?.();
    return true;
  }
}

export function abortedError(model: string, signal: AbortSignal): RxgradError {
  return new RxgradError('predictionAborted', { model }, { cause: signal.reason });
}
