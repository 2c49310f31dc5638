import { Observable, type OperatorFunction } from 'rxjs';
import * as v from 'valibot';
import type { CheckpointStore } from '../checkpoints/checkpoint-store.ts';
import { Sealer } from '../checkpoints/sealer.ts';
import { isRxgradError, RxgradError } from '../errors.ts';
import { channels } from '../observe/channels.ts';
import type { WeightsUpdate } from '../optimizers/weights-update.ts';
import { count, expectOption, parseOptions, positive } from '../options.ts';

export interface CheckpointOptions {
  /** Versions between two checkpoints: taken at their multiples. */
  readonly everySteps?: number;
  /** Milliseconds between two checkpoints. With `everySteps` too: whichever is first. */
  readonly everyMs?: number;
  /** Whether one is taken as the stream completes, and waited for. Default true. */
  readonly atEnd?: boolean;
  /** Failures in a row, after which the stream fails. Each is told by a warning; the next one is tried as if it had not been. Default 10. */
  readonly maxFailuresInARow?: number;
}

const schema = v.strictObject({
  everySteps: v.optional(count),
  everyMs: v.optional(positive),
  atEnd: v.optional(v.boolean(), true),
  maxFailuresInARow: v.optional(count, 10),
});

type Parsed = v.InferOutput<typeof schema>;

/**
 * Writes checkpoints of what the updates' parameters are at, and passes the updates on at once. The scan goes on meanwhile: it
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
  #newest: WeightsUpdate | null = null;
  #takenVersion = -1;
  #takenMs = performance.now();
  #due = false;
  #failures = 0;
  #closed = false;
  #taking: Promise<void> | null = null;

  constructor(store: CheckpointStore, options: Parsed, fail: (error: unknown) => void) {
    this.#store = store;
    this.#options = options;
    this.#fail = fail;
  }

  see(update: WeightsUpdate): void {
    const { everySteps, everyMs } = this.#options;
    this.#newest = update;
    this.#due ||= everySteps !== undefined && update.version % everySteps === 0;
    if (this.#taking || !(this.#due || (everyMs !== undefined && performance.now() - this.#takenMs >= everyMs))) return;
    this.#taking = this.#take(update).finally(() => {
      this.#taking = null;
    });
    this.#taking.catch(this.#fail);
  }

  /** Takes a last one, if there is anything new, and waits for it. */
  async end(): Promise<void> {
    await this.#taking;
    const newest = this.#newest;
    if (this.#options.atEnd && newest && newest.params.version !== this.#takenVersion) await this.#take(newest);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#taking?.catch(() => {});
    await this.#sealer.close();
  }

  async #take({ params }: WeightsUpdate): Promise<void> {
    const start = performance.now();
    const { version } = params;
    this.#due = false;
    this.#takenMs = start;
    try {
      const file = await this.#sealer.seal(params);
      const sealedMs = performance.now() - start;
      await this.#store.write(version, file);
      this.#takenVersion = version;
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

  #failed(cause: unknown): void {
    // Nobody goes on from here: whoever ended the stream may have closed what it was written to.
    if (this.#closed) return;
    if (isRxgradError(cause) && cause.key === 'fenced') throw cause;
    this.#failures += 1;
    const { message } = cause as Error;
    if (this.#failures >= this.#options.maxFailuresInARow) {
      throw new RxgradError('checkpointsFail', { count: this.#failures, last: message }, { cause });
    }
    process.emitWarning(`${message}. The checkpoints before it stay; the next one is tried`, {
      code: 'RXGRAD_CHECKPOINT_FAILED',
    });
  }
}
