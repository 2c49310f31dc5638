import { setTimeout as delay } from 'node:timers/promises';
import { RxgradError } from '../errors.ts';
import { isLocked } from './log-errors.ts';

const mostDelayMs = 100;

/** Runs transactions one after another. While another connection holds the write lock they wait, up to a bound; the thread does not. */
export class LogWrites {
  readonly #name: string;
  readonly #timeoutMs: number;
  readonly #warnAfterMs: number;
  #tail: Promise<unknown> | null = null;

  constructor(name: string, timeoutMs: number, warnAfterMs = 5_000) {
    this.#name = name;
    this.#timeoutMs = timeoutMs;
    this.#warnAfterMs = warnAfterMs;
  }

  /** Runs an action in this turn, unless an earlier one waits, or it has to. */
  run<T>(action: () => T): Promise<T> {
    if (!this.#tail) {
      try {
        return Promise.resolve(action());
      } catch (error) {
        if (!isLocked(error)) return Promise.reject(error);
      }
    }
    const result = (this.#tail ?? Promise.resolve()).then(() => this.#patiently(action));
    const tail = result.then(
      () => {},
      () => {},
    );
    this.#tail = tail;
    void tail.then(() => {
      if (this.#tail === tail) this.#tail = null;
    });
    return result;
  }

  async #patiently<T>(action: () => T): Promise<T> {
    const startMs = performance.now();
    let warned = false;
    for (let tries = 1; ; tries++) {
      try {
        return action();
      } catch (error) {
        if (!isLocked(error)) throw error;
        const waitedMs = performance.now() - startMs;
        if (waitedMs >= this.#timeoutMs) {
          const problem = `another process has held its write lock for ${this.#timeoutMs / 1000} s`;
          const advice = 'End that process, or its transaction, then try again';
          throw new RxgradError('transportInterrupted', { transport: this.#name, problem, advice }, { cause: error });
        }
        if (!warned && waitedMs >= this.#warnAfterMs) {
          warned = true;
          const bound = `Appends wait for it, up to ${this.#timeoutMs / 1000} s`;
          process.emitWarning(
            `${this.#name}: another process has held its write lock for ${this.#warnAfterMs / 1000} s. ${bound}`,
            {
              code: 'RXGRAD_LOG_LOCKED',
            },
          );
        }
        await delay(Math.min(5 * tries, mostDelayMs));
      }
    }
  }
}
