import { MessageChannel, type Worker } from 'node:worker_threads';
import { RxgradError } from '../errors.ts';
import type { Slot } from '../params/left-right.ts';
import type { Parameters } from '../params/parameters.ts';
import { threadFile } from '../threads.ts';
import type { ThreadOpening, ThreadTask } from './inference-thread.ts';
import { LinkClient } from './link-client.ts';
import { startLinkedThread } from './linked-thread.ts';
import type { Opening, ThreadModel } from './open-session.ts';
import type { Feeds, RunResult } from './runner.ts';
import { linkWords, type SharedLink } from './thread-link.ts';

const inferenceThread = threadFile(import.meta.url, './inference-thread');

/** One thread with a session over shared weights, as seen from the thread that asks. It lives once. */
export class InferenceWorker {
  readonly opening: Opening;
  readonly #model: ThreadModel;
  readonly #link: LinkClient;
  readonly #onEnd: (problem: string) => void;
  readonly #ended: Promise<void>;
  #problem = 'without saying why';
  #closing = false;

  /** Starts a thread that has opened the model. `onEnd` hears why, if it ends before it is closed. */
  static async open(model: ThreadModel, params: Parameters, onEnd: (problem: string) => void): Promise<InferenceWorker> {
    const { port1, port2 } = new MessageChannel();
    const words = linkWords();
    const { source, options, inputNames } = model;
    const link = { words, port: port2 };
    const workerData: ThreadTask = { model: source, options, weights: params.share(), link, inputNames };
    const { worker, ended } = startLinkedThread(inferenceThread, 'rxgrad inference', link, params, workerData);
    // Nobody else keeps the process alive until it has opened the model.
    worker.ref();
    const opening = await openingOf(worker);
    if ('got' in opening) {
      await ended;
      throw new RxgradError('invalidModel', { model: source.name, got: opening.got });
    }
    return new InferenceWorker(model, worker, { words, port: port1 }, opening, ended, onEnd);
  }

  private constructor(
    model: ThreadModel,
    worker: Worker,
    link: SharedLink,
    opening: Opening,
    ended: Promise<void>,
    onEnd: (problem: string) => void,
  ) {
    this.opening = opening;
    this.#model = model;
    this.#link = new LinkClient(link, model.inputNames, worker);
    this.#link.outputNames = opening.outputs.map(({ name }) => name);
    this.#onEnd = onEnd;
    this.#ended = ended.then(() => this.#end());
    worker.on('error', (error) => {
      this.#problem = error.message;
    });
    worker.unref();
  }

  /** Not to be called while {@link LANES} runs are on their way. */
  run(feeds: Feeds, slot: Slot | null): Promise<RunResult> {
    return this.#link.run(feeds, slot);
  }

  /** Lets what is on its way end. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#link.close();
    await this.#ended;
  }

  #end(): void {
    const problem = `the thread that ran it ended (${this.#problem})`;
    this.#link.fail(new RxgradError('predictionFailed', { model: this.#model.source.name, problem }));
    if (!this.#closing) this.#onEnd(this.#problem);
  }
}

function openingOf(worker: Worker): Promise<ThreadOpening> {
  return new Promise((resolve) => {
    worker.once('message', resolve);
    worker.once('error', (error) => resolve({ got: `a thread that failed to open it: ${error.message}` }));
    worker.once('exit', () => resolve({ got: 'a thread that ended before it had opened it' }));
  });
}
