import { setTimeout as pause } from 'node:timers/promises';
import { RxgradError } from '../errors.ts';
import type { Slot } from '../params/left-right.ts';
import type { WeightsReader } from '../params/weights-reader.ts';
import { Asked, type AskOptions, abortedError } from './asked.ts';
import { isBatchable, Signatures } from './batch.ts';
import type { ModelInput } from './onnx/model.ts';
import type { ModelOutput } from './open-session.ts';
import { PredictionQueue } from './prediction-queue.ts';
import { runBatch } from './run-batch.ts';
import type { Feeds, Runner, RunResult } from './runner.ts';

/** How predictions wait, and are put together. */
export interface PoolOptions {
  readonly maxBatch: number;
  readonly maxDelayMs: number;
  readonly maxQueue: number;
}

interface PooledModel {
  readonly name: string;
  readonly inputs: readonly ModelInput[];
  readonly outputs: readonly ModelOutput[];
}

/** One of the runners, and how much it has to do. */
interface Lane {
  readonly runner: Runner;
  running: number;
}

/**
 * Hands predictions to runners. They wait here, not there, so that they can be put together, be given up, and be refused when
 * there are too many. What came in the same turn of the event loop goes into one run, and what comes while runners are busy.
 */
export class Pool {
  readonly #model: PooledModel;
  readonly #lanes: readonly Lane[];
  readonly #reader: WeightsReader;
  readonly #options: PoolOptions;
  readonly #queue: PredictionQueue;
  readonly #signatures: Signatures | null;
  /** Where a prediction can go past the queue, while it takes any number. */
  readonly #direct: Runner | null;
  #batches: boolean;
  #immediate: NodeJS.Immediate | null = null;
  #timer: NodeJS.Timeout | undefined;
  #running = 0;
  #closed = false;
  #whenIdle: (() => void) | null = null;

  constructor(model: PooledModel, runners: readonly Runner[], reader: WeightsReader, options: PoolOptions) {
    this.#model = model;
    this.#lanes = runners.map((runner) => ({ runner, running: 0 }));
    this.#reader = reader;
    this.#options = options;
    this.#queue = new PredictionQueue(options);
    this.#batches = options.maxBatch > 1 && isBatchable(model.inputs, model.outputs);
    this.#signatures = this.#batches ? new Signatures(model.inputs) : null;
    this.#direct = runners.length === 1 && options.maxBatch === 1 ? runners[0]! : null;
    for (const runner of runners) runner.onCapacity = this.#onCapacity;
  }

  /** Predictions that wait for a runner. */
  get queued(): number {
    return this.#queue.size;
  }

  /** Whether predictions are put together. */
  get batches(): boolean {
    return this.#batches;
  }

  /** Resolves to what a runner makes of it; where it could not, see {@link runError}. `slot` is that of a version that is kept, or null for the live ones. */
  ask(feeds: Feeds, slot: Slot | null, options: AskOptions | undefined): Promise<RunResult> {
    const running = this.#direct?.running ?? null;
    if (running !== null && slot === null && options === undefined) return this.#askAtOnce(this.#direct!, running, feeds);
    const refusal = this.#refusal(options?.signal);
    if (refusal) return Promise.reject(refusal);
    return new Promise((resolve, reject) => {
      const rows = this.#signatures && this.#batches ? this.#signatures.rowsOf(feeds) : 0;
      const signature = rows > 0 ? this.#signatures!.of(feeds) : null;
      const asked = new Asked({ feeds, slot, rows, signature }, resolve, reject);
      if (slot !== null) this.#reader.hold(slot);
      if (options) asked.watch(this.#model.name, options, this.#giveUp);
      this.#queue.add(asked);
      this.#schedule();
    });
  }

  /** Runs a request on every runner, some times. */
  async warmUp(feeds: Feeds, runs: number): Promise<void> {
    for (const lane of this.#lanes) {
      for (let i = 0; i < runs; i++) {
        while (lane.running >= lane.runner.capacity) {
          if (this.#closed || lane.runner.failure) throw this.#refusal(undefined) ?? lane.runner.failure!;
          await pause(1);
        }
        await this.#occupied(lane, () => lane.runner.run(feeds, null));
      }
    }
  }

  /** Runs predictions one by one from now on. */
  runAlone(why: string): void {
    this.#batches = false;
    const advice = 'its predictions are not put together';
    process.emitWarning(`${this.#model.name}: ${why}; ${advice}`, { code: 'RXGRAD_NOT_BATCHABLE' });
  }

  /** Waits for what is running, and fails what waits. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#immediate) clearImmediate(this.#immediate);
    clearTimeout(this.#timer);
    this.#failAll(new RxgradError('sessionClosed', { model: this.#model.name }));
    if (this.#running > 0) {
      await new Promise<void>((resolve) => {
        this.#whenIdle = resolve;
      });
    }
    await Promise.all(this.#lanes.map(({ runner }) => runner.close()));
    this.#reader.close();
  }

  /** onnxruntime keeps a queue of its own, which serves as well where nothing is put together or given up. */
  #askAtOnce(runner: Runner, running: number, feeds: Feeds): Promise<RunResult> {
    const limit = this.#options.maxQueue;
    if (this.#closed || running > limit) {
      return Promise.reject(this.#refusal(undefined) ?? new RxgradError('overloaded', { model: this.#model.name, limit }));
    }
    return runner.run(feeds, null);
  }

  #refusal(signal: AbortSignal | undefined): RxgradError | null {
    const model = this.#model.name;
    const limit = this.#options.maxQueue;
    if (this.#closed) return new RxgradError('sessionClosed', { model });
    if (signal?.aborted) return abortedError(model, signal);
    if (this.#queue.size >= limit) return new RxgradError('overloaded', { model, limit });
    return this.#failure;
  }

  /** Why nothing can run, if no runner can. */
  get #failure(): RxgradError | null {
    return this.#lanes.every(({ runner }) => runner.failure !== null) ? this.#lanes[0]!.runner.failure : null;
  }

  /** One that is running already runs on, and nobody hears of it. */
  readonly #giveUp = (asked: Asked, error: RxgradError): void => {
    if (this.#queue.remove(asked)) this.#release(asked);
    asked.reject(error);
  };

  #failAll(error: RxgradError): void {
    for (const asked of this.#queue.clear()) {
      this.#release(asked);
      asked.reject(error);
    }
  }

  #release({ slot }: Asked): void {
    if (slot !== null) this.#reader.release(slot);
  }

  readonly #onCapacity = (): void => {
    const failure = this.#failure;
    if (failure) this.#failAll(failure);
    else this.#schedule();
  };

  #schedule(): void {
    if (this.#queue.size === 0 || this.#closed) return;
    // What else comes in this turn of the event loop can go along.
    if (this.#batches) this.#immediate ??= setImmediate(this.#handOut);
    else this.#handOut();
  }

  readonly #handOut = (): void => {
    this.#immediate = null;
    clearTimeout(this.#timer);
    const now = performance.now();
    for (let lane = this.#freeLane(); lane; lane = this.#freeLane()) {
      const batch = this.#queue.take(now);
      if (batch.length > 0) {
        this.#run(lane, batch, now);
      } else {
        this.#wait(now);
        return;
      }
    }
  };

  #wait(now: number): void {
    const due = this.#queue.dueAt;
    if (due < Infinity) this.#timer = setTimeout(this.#handOut, Math.max(1, Math.ceil(due - now)));
  }

  /** The one with the least to do. */
  #freeLane(): Lane | null {
    let free: Lane | null = null;
    for (const lane of this.#lanes) {
      if (lane.running < lane.runner.capacity && lane.running < (free?.running ?? Infinity)) free = lane;
    }
    return free;
  }

  async #run(lane: Lane, batch: readonly Asked[], now: number): Promise<void> {
    const inTime = batch.filter((asked) => !asked.isLate(now));
    try {
      await this.#occupied(lane, async () => {
        const isCut = inTime.length === 0 || (await runBatch(this.#model, lane.runner, inTime));
        if (!isCut && this.#batches) this.runAlone('its outputs do not have a row for each of its inputs');
      });
    } finally {
      for (const asked of batch) this.#release(asked);
    }
  }

  async #occupied(lane: Lane, work: () => Promise<unknown>): Promise<void> {
    lane.running++;
    this.#running++;
    try {
      await work();
    } finally {
      this.#free(lane);
    }
  }

  #free(lane: Lane): void {
    lane.running--;
    this.#running--;
    if (this.#running === 0) this.#whenIdle?.();
    this.#schedule();
  }
}
