import { RxgradError } from '../errors.ts';
import type { Slot } from '../params/left-right.ts';
import type { Parameters } from '../params/parameters.ts';
import { InferenceWorker } from './inference-worker.ts';
import type { Opening, ThreadModel } from './open-session.ts';
import type { Feeds, Runner, RunResult } from './runner.ts';
import { LANES } from './thread-link.ts';

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 10_000;

/**
 * Runs the model on a thread of its own, with its own session over the same weights. A thread that dies takes what it was at
 * with it, by an error; another is started in its place, after a pause that doubles where one dies before it has run anything.
 */
export class ThreadRunner implements Runner {
  onCapacity: (() => void) | null = null;
  readonly #model: ThreadModel;
  readonly #params: Parameters;
  #worker: InferenceWorker | null = null;
  #problem = '';
  #pauseMs = 0;
  #pause: NodeJS.Timeout | undefined;
  #starting: Promise<void> | null = null;
  #closed = false;

  static async open(model: ThreadModel, params: Parameters): Promise<ThreadRunner> {
    const runner = new ThreadRunner(model, params);
    runner.#worker = await InferenceWorker.open(model, params, runner.#onEnd);
    return runner;
  }

  private constructor(model: ThreadModel, params: Parameters) {
    this.#model = model;
    this.#params = params;
  }

  get capacity(): number {
    return this.#worker ? LANES : 0;
  }

  get failure(): RxgradError | null {
    if (this.#worker || this.#pauseMs <= FIRST_PAUSE_MS) return null;
    return new RxgradError('predictionFailed', { model: this.#model.source.name, problem: this.#problem });
  }

  /** What its thread told of its session; null where it has none now. */
  get opening(): Opening | null {
    return this.#worker?.opening ?? null;
  }

  async run(feeds: Feeds, slot: Slot | null): Promise<RunResult> {
    const worker = this.#worker;
    if (!worker) throw new RxgradError('predictionFailed', { model: this.#model.source.name, problem: this.#problem });
    const result = await worker.run(feeds, slot);
    this.#pauseMs = 0;
    return result;
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#pause);
    await this.#starting;
    await this.#worker?.close();
  }

  readonly #onEnd = (problem: string): void => {
    this.#worker = null;
    this.#problem = problem;
    if (this.#closed) return;
    this.#pause = setTimeout(() => {
      this.#starting = this.#start();
    }, this.#pauseMs).unref();
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS, 2 * this.#pauseMs));
    this.onCapacity?.();
  };

  async #start(): Promise<void> {
    try {
      this.#worker = await InferenceWorker.open(this.#model, this.#params, this.#onEnd);
      this.onCapacity?.();
    } catch (error) {
      this.#onEnd((error as Error).message);
    }
  }
}
