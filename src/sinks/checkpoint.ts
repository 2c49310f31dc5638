import { Observable, type OperatorFunction } from 'rxjs';
import * as v from 'valibot';
import type { CheckpointStore } from '../checkpoints/checkpoint-store.ts';
import { Sealer } from '../checkpoints/sealer.ts';
import { isFenced, isRxgradError, RxgradError } from '../errors.ts';
import { channels } from '../observe/channels.ts';
import type { WeightsUpdate } from '../optimizers/weights-update.ts';
import { count, expectOption, parseOptions, positive } from '../options.ts';
import { Parameters } from '../params/parameters.ts';

// How soon one that was replaced notices it, at the latest.
const CONFIRM_MS = 2_000;
// How soon it is tried again where a step was under way.
const AGAIN_MS = 20;
// Pauses while what keeps them cannot be reached: a broker may restart meanwhile.
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 30_000;
// A timer that is set to more rings at once.
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export interface CheckpointOptions {
  /** Versions between two checkpoints: taken at their multiples. */
  readonly everySteps?: number;
  /**
   * Milliseconds between two checkpoints: so long after anything happened there is one that contains it, though nothing more comes.
   * With `everySteps` too: whichever is first.
   */
  readonly everyMs?: number;
  /**
   * The parameters that the updates are of. With them and `everyMs`, events that come before the first update and make none
   * (epochs, metrics, rejections) are kept as well. Default: those of the first update, from then on.
   */
  readonly params?: Parameters;
  /** Whether one is taken as the stream completes, and waited for. Default true. */
  readonly atEnd?: boolean;
  /**
   * Failures in a row, after which the stream fails. Each is told by a warning, and another one is tried when it is due; while a log that
   * keeps checkpoints cannot be reached, after a pause that grows from a quarter of a second to 30: ten of them take a minute and a half.
   * Default 10.
   */
  readonly maxFailuresInARow?: number;
}

const schema = v.strictObject({
  everySteps: v.optional(count),
  everyMs: v.optional(positive),
  params: v.optional(v.custom<Parameters>((given) => given instanceof Parameters, 'Parameters')),
  atEnd: v.optional(v.boolean(), true),
  maxFailuresInARow: v.optional(count, 10),
});

type Parsed = v.InferOutput<typeof schema>;

/**
 * Takes the store over, unless `recover` has done so, and writes checkpoints of what the updates' parameters are at, and passes the updates on at once. The scan goes on meanwhile: it
 * waits for a copy at most, which another thread makes. While one is being written, none is taken.
 *
 * @example
 * gradients$.pipe(momentum(params), checkpoint(new FileCheckpoints('checkpoints'), { everySteps: 1000, everyMs: 60_000 }))
 */
export function checkpoint(store: CheckpointStore, options: CheckpointOptions): OperatorFunction<WeightsUpdate, WeightsUpdate> {
  const parsed = parseOptions(schema, options, 'checkpoint');
  expectOption(parsed.everySteps !== undefined || parsed.everyMs !== undefined, 'checkpoint', 'everySteps or everyMs', 'neither');
  return (updates$) =>
    new Observable((out) => {
      const taking = new Checkpointing(store, parsed, (error) => out.error(error));
      const subscription = updates$.subscribe({
        next(update) {
          taking.see(update);
          out.next(update);
        },
        error(error) {
          out.error(error);
        },
        complete() {
          taking.end().then(
            () => out.complete(),
            (error: unknown) => out.error(error),
          );
        },
      });
      return () => {
        subscription.unsubscribe();
        void taking.close();
      };
    });
}

/** One subscription's checkpoints. */
class Checkpointing {
  readonly #store: CheckpointStore;
  readonly #options: Parsed;
  readonly #fail: (error: unknown) => void;
  readonly #sealer = new Sealer();
  #params: Parameters | null;
  /** What the newest checkpoint contains. */
  #takenVersion: number;
  #takenHandled = 0;
  #takenMs = performance.now();
  #due = false;
  #failures = 0;
  /** Before then none is tried. */
  #pauseUntilMs = 0;
  #ended = false;
  #closed = false;
  #taking: Promise<void> | null = null;
  readonly #owning: Promise<void>;
  #timer: NodeJS.Timeout | undefined;
  readonly #watching: NodeJS.Timeout;

  constructor(store: CheckpointStore, options: Parsed, fail: (error: unknown) => void) {
    this.#store = store;
    this.#options = options;
    this.#fail = fail;
    this.#params = options.params ?? null;
    this.#takenVersion = options.params?.version ?? -1;
    this.#owning = this.#own();
    this.#owning.catch(fail);
    this.#lookIn(this.#leftMs);
    // A quiet stream writes nothing that could be refused.
    this.#watching = setInterval(() => void this.#confirmOwner().catch(fail), CONFIRM_MS).unref();
  }

  see({ params, version }: WeightsUpdate): void {
    const { everySteps } = this.#options;
    this.#params = params;
    this.#due ||= everySteps !== undefined && version % everySteps === 0;
    if (!this.#taking && this.#pauseMs <= 0 && (this.#due || this.#leftMs <= 0)) this.#begin(params);
  }

  /** As the training starts, where `recover` has not done so: a first write may come after another one has taken over. */
  async #own(): Promise<void> {
    if (this.#store.takeOver && !this.#store.tookOver) await this.#store.takeOver();
  }

  /** Takes a last one, if there is anything new, and waits for it. */
  async end(): Promise<void> {
    this.#stopLooking();
    await this.#owning;
    await this.#taking;
    if (this.#options.atEnd && this.#params && this.#hasNews(this.#params)) await this.#take(this.#params);
    await this.#confirmOwner();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#stopLooking();
    clearInterval(this.#watching);
    await this.#taking?.catch(() => {});
    await this.#sealer.close();
  }

  /** Milliseconds until a checkpoint is due by time. */
  get #leftMs(): number {
    const { everyMs = Number.POSITIVE_INFINITY } = this.#options;
    return this.#takenMs + everyMs - performance.now();
  }

  get #pauseMs(): number {
    return this.#pauseUntilMs - performance.now();
  }

  /** Looks for news in a while: an update may be the last one for long, and some events make none. Keeps no process alive. */
  #lookIn(ms: number): void {
    clearTimeout(this.#timer);
    if (this.#ended || ms === Number.POSITIVE_INFINITY) return;
    this.#timer = setTimeout(this.#look, Math.min(Math.max(0, ms), LONGEST_TIMER_MS)).unref();
  }

  #stopLooking(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
  }

  readonly #look = (): void => {
    const params = this.#params;
    if (this.#taking) return;
    if (this.#pauseMs > 0) this.#lookIn(this.#pauseMs);
    else if (!params || !this.#hasNews(params)) this.#lookIn(this.#options.everyMs ?? Number.POSITIVE_INFINITY);
    else if (params.settled) this.#begin(params);
    else this.#lookIn(AGAIN_MS);
  };

  /** Whether there is anything that the newest checkpoint does not contain: a version, or a place in the log alone. */
  #hasNews({ version, seat }: Parameters): boolean {
    return version !== this.#takenVersion || seat.handled !== this.#takenHandled;
  }

  #begin(params: Parameters): void {
    this.#taking = this.#take(params).finally(() => {
      this.#taking = null;
      // What came due in the meantime may have been the last of its kind.
      this.#lookIn(Math.max(this.#pauseMs, this.#due ? 0 : this.#leftMs));
    });
    this.#taking.catch(this.#fail);
  }

  async #take(params: Parameters): Promise<void> {
    const start = performance.now();
    const { version } = params;
    const { handled } = params.seat;
    this.#due = false;
    this.#takenMs = start;
    try {
      const file = await this.#sealer.seal(params);
      const sealedMs = performance.now() - start;
      // Nobody reads again what the state contains: what was left out of it is kept first.
      await params.whenRejectionsKept();
      await this.#owning;
      await this.#store.write(version, file);
      this.#takenVersion = version;
      this.#takenHandled = handled;
      this.#failures = 0;
      const durationMs = performance.now() - start;
      const { name } = this.#store;
      if (channels.checkpoint.hasSubscribers) {
        channels.checkpoint.publish({ kind: 'checkpoint', at: name, version, bytes: file.byteLength, sealedMs, durationMs });
      }
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Fails where another one has taken the store over. What else goes wrong is for the next write to tell. */
  async #confirmOwner(): Promise<void> {
    try {
      await this.#store.confirmOwner?.();
    } catch (error) {
      if (isFenced(error) && !this.#closed) throw error;
    }
  }

  #failed(cause: unknown): void {
    // Nobody goes on from here: whoever ended the stream may have closed what it was written to.
    if (this.#closed) return;
    if (isFenced(cause)) throw cause;
    this.#failures += 1;
    const { message } = cause as Error;
    if (this.#failures >= this.#options.maxFailuresInARow) {
      throw new RxgradError('checkpointsFail', { count: this.#failures, last: message }, { cause });
    }
    process.emitWarning(`${message}. The checkpoints before it stay; the next one is tried`, {
      code: 'RXGRAD_CHECKPOINT_FAILED',
    });
    if (!isUnreachable(cause)) return;
    this.#pauseUntilMs = performance.now() + Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this.#failures - 1));
    this.#due = true;
  }
}

/** Whether what keeps checkpoints could not be reached, which may pass. */
function isUnreachable(error: unknown): boolean {
  for (let cause = error; isRxgradError(cause); cause = cause.cause) if (cause.key === 'transportFailed') return true;
  return false;
}
