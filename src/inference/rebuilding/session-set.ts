import type { SlotFacts } from '../../params/left-right.ts';
import type { Parameters } from '../../params/parameters.ts';
import type { Opening, ThreadModel } from '../open-session.ts';
import type { Feeds, RunResult } from '../runner.ts';
import { LANES } from '../thread-link.ts';
import { BuildingWorker } from './building-worker.ts';
import type { PlainFeeds } from './plain-feeds.ts';

/** Threads that serve one version of the weights together, each with a session of its own. */
export class SessionSet {
  /** Hears when a thread has ended that should not have. */
  onLoss: (() => void) | null = null;
  readonly #model: ThreadModel;
  readonly #params: Parameters;
  readonly #size: number;
  #workers: BuildingWorker[] = [];
  #facts: SlotFacts | null = null;
  #closed = false;

  constructor(model: ThreadModel, params: Parameters, size: number) {
    this.#model = model;
    this.#params = params;
    this.#size = size;
    this.#fill();
  }

  /** Of the weights that the sessions were built of; null while there are none. */
  get facts(): SlotFacts | null {
    return this.#facts;
  }

  /** How many runs it takes at once. */
  get capacity(): number {
    return this.#facts ? LANES * this.#alive.length : 0;
  }

  /** Whether threads have ended that it had. */
  get isShort(): boolean {
    return this.#alive.length < this.#size;
  }

  /** Runs on their way. */
  get waiting(): number {
    return this.#workers.reduce((sum, worker) => sum + worker.waiting, 0);
  }

  /** Builds a session in each thread, all of the version that is live when it begins. `copy` has room for the weights. */
  async build(copy: SharedArrayBuffer, requests: readonly PlainFeeds[]): Promise<Opening> {
    this.#fill();
    const workers = this.#workers;
    const facts = await workers[0]!.copy(copy);
    const built = await Promise.allSettled(workers.map((worker) => worker.build(copy, facts, requests)));
    const failed = built.find((one) => one.status === 'rejected');
    if (failed) {
      await this.release();
      throw failed.reason;
    }
    this.#facts = facts;
    return (built[0] as PromiseFulfilledResult<Opening>).value;
  }

  /** Not to be called while {@link capacity} runs are on their way. */
  run(feeds: Feeds): Promise<RunResult> {
    // One that has ended says so.
    let idlest = this.#workers[0]!;
    for (const worker of this.#workers) {
      if (worker.alive && (!idlest.alive || worker.waiting < idlest.waiting)) idlest = worker;
    }
    return idlest.run(feeds);
  }

  /** Lets what is on its way end, and releases the sessions. */
  async release(): Promise<void> {
    this.#facts = null;
    await Promise.all(this.#workers.map((worker) => worker.release()));
  }

  /** Ends the threads. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#facts = null;
    await Promise.all(this.#workers.map((worker) => worker.close()));
  }

  get #alive(): BuildingWorker[] {
    return this.#workers.filter((worker) => worker.alive);
  }

  #fill(): void {
    const onEnd = (): void => {
      if (!this.#closed) this.onLoss?.();
    };
    this.#workers = this.#alive;
    while (this.#workers.length < this.#size) this.#workers.push(new BuildingWorker(this.#model, this.#params, onEnd));
  }
}
