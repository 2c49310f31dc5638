import { MessageChannel, Worker } from 'node:worker_threads';
import type { InferenceSession } from 'onnxruntime-node';
import { RxgradError } from '../errors.ts';
import type { Slot } from '../params/left-right.ts';
import type { Parameters } from '../params/parameters.ts';
import type { ThreadOpening, ThreadTask } from './inference-thread.ts';
import type { ModelSource, Opening } from './open-session.ts';
import type { Feeds, RunResult } from './runner.ts';
import { ownTensor } from './tensor-frame.ts';
import {
  ANSWERED,
  answerOf,
  COUNTS,
  HELD,
  LANES,
  linkWords,
  REQUESTED,
  requestNumbers,
  type SharedLink,
  TensorLane,
} from './thread-link.ts';

/** What a thread runs. */
export interface ThreadModel {
  readonly source: ModelSource;
  readonly options: InferenceSession.SessionOptions;
  readonly inputNames: readonly string[];
}

interface Waiting {
  readonly resolve: (result: RunResult) => void;
  readonly reject: (error: Error) => void;
}

// As this file: TypeScript from the sources, JavaScript from what is built.
const threadFile = new URL(import.meta.url.endsWith('.ts') ? './inference-thread.ts' : './inference-thread.js', import.meta.url);

/** One thread with a session over shared weights, as seen from the thread that asks. It lives once. */
export class InferenceWorker {
  readonly opening: Opening;
  readonly #model: ThreadModel;
  readonly #worker: Worker;
  readonly #link: SharedLink;
  readonly #names: readonly string[];
  readonly #requests: readonly TensorLane[];
  readonly #answers: readonly TensorLane[];
  readonly #onEnd: (problem: string) => void;
  /** In the order of their requests. */
  readonly #waiting: Waiting[] = [];
  readonly #ended: Promise<void>;
  #requested = 0;
  #answered = 0;
  #problem = 'without saying why';
  #closing = false;

  /** Starts a thread that has opened the model. `onEnd` hears why, if it ends before it is closed. */
  static async open(model: ThreadModel, params: Parameters, onEnd: (problem: string) => void): Promise<InferenceWorker> {
    const { port1, port2 } = new MessageChannel();
    const words = linkWords();
    const { source, options, inputNames } = model;
    const link = { words, port: port2 };
    const workerData: ThreadTask = { model: source, options, weights: params.share(), link, inputNames };
    const worker = new Worker(threadFile, { workerData, transferList: [port2], name: 'rxgrad inference' });
    const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
    ended.then(() => letGo(words, params));
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
    this.#worker = worker;
    this.#link = link;
    this.#names = opening.outputs.map(({ name }) => name);
    this.#requests = Array.from({ length: LANES }, (_, lane) => new TensorLane(link, 0, lane));
    this.#answers = Array.from({ length: LANES }, (_, lane) => new TensorLane(link, 1, lane));
    this.#onEnd = onEnd;
    this.#ended = ended.then(() => this.#end());
    worker.on('error', (error) => {
      this.#problem = error.message;
    });
    worker.unref();
  }

  /** Not to be called while {@link LANES} runs are on their way. */
  run(feeds: Feeds, slot: Slot | null): Promise<RunResult> {
    const lane = this.#requests[this.#requested % LANES]!;
    const tensors = this.#model.inputNames.map((name) => feeds[name]!);
    return new Promise((resolve, reject) => {
      lane.write(requestNumbers(slot), tensors);
      this.#waiting.push({ resolve, reject });
      this.#requested = (this.#requested + 1) % COUNTS;
      const { words } = this.#link;
      Atomics.store(words, REQUESTED, this.#requested);
      Atomics.notify(words, REQUESTED);
      if (this.#waiting.length === 1) this.#listen();
    });
  }

  /** Lets what is on its way end. */
  async close(): Promise<void> {
    this.#closing = true;
    const { words } = this.#link;
    this.#worker.ref();
    Atomics.or(words, REQUESTED, COUNTS);
    Atomics.notify(words, REQUESTED);
    await this.#ended;
  }

  async #listen(): Promise<void> {
    const { words } = this.#link;
    // A wait alone keeps no process alive.
    this.#worker.ref();
    while (this.#waiting.length > 0) {
      const wait = Atomics.waitAsync(words, ANSWERED, this.#answered);
      if (wait.async) await wait.value;
      this.#takeAnswers();
    }
    if (!this.#closing) this.#worker.unref();
  }

  #takeAnswers(): void {
    while (this.#waiting.length > 0 && this.#answered !== Atomics.load(this.#link.words, ANSWERED)) this.#take();
  }

  #end(): void {
    this.#takeAnswers();
    this.#link.port.close();
    for (const { reject } of this.#waiting.splice(0)) {
      const problem = `the thread that ran it ended (${this.#problem})`;
      reject(new RxgradError('predictionFailed', { model: this.#model.source.name, problem }));
    }
    // Whoever listens finds that nothing is waited for.
    Atomics.notify(this.#link.words, ANSWERED);
    if (!this.#closing) this.#onEnd(this.#problem);
  }

  #take(): void {
    const answer = this.#answers[this.#answered % LANES]!.read(this.#names);
    this.#answered = (this.#answered + 1) % COUNTS;
    const { resolve, reject } = this.#waiting.shift()!;
    if (typeof answer === 'string') {
      reject(new Error(answer));
    } else {
      const outputs = Object.fromEntries(this.#names.map((name) => [name, ownTensor(answer.tensors[name]!)]));
      resolve({ outputs, ...answerOf(answer.numbers) });
    }
  }
}

/** Undoes what a thread that ended has left marked. */
function letGo(words: Int32Array, { leftRight }: Parameters): void {
  const held = Atomics.exchange(words, HELD, 0);
  if (held > 0) leftRight.release(held - 1);
  leftRight.detach();
}

function openingOf(worker: Worker): Promise<ThreadOpening> {
  return new Promise((resolve) => {
    worker.once('message', resolve);
    worker.once('error', (error) => resolve({ got: `a thread that failed to open it: ${error.message}` }));
    worker.once('exit', () => resolve({ got: 'a thread that ended before it had opened it' }));
  });
}
