import { MessageChannel, type Worker } from 'node:worker_threads';
import { RxgradError } from '../../errors.ts';
import type { SlotFacts } from '../../params/left-right.ts';
import type { Parameters } from '../../params/parameters.ts';
import { threadFile } from '../../threads.ts';
import { LinkClient } from '../link-client.ts';
import { startLinkedThread } from '../linked-thread.ts';
import type { Opening, ThreadModel } from '../open-session.ts';
import type { Feeds, RunResult } from '../runner.ts';
import { linkWords } from '../thread-link.ts';
import type { BuildingAnswer, BuildingSetup, BuildingTask } from './building-thread.ts';
import type { PlainFeeds } from './plain-feeds.ts';

type Kind = BuildingAnswer['kind'];

interface Asking {
  readonly kind: Kind;
  readonly resolve: (answer: BuildingAnswer) => void;
  readonly reject: (error: Error) => void;
}

const buildingThread = threadFile(import.meta.url, './building-thread');

/** One thread that builds sessions with constant weights, one after the other, and runs each until it is released. It lives once. */
export class BuildingWorker {
  readonly #model: ThreadModel;
  readonly #worker: Worker;
  readonly #link: LinkClient;
  readonly #onEnd: () => void;
  readonly #ended: Promise<void>;
  readonly #asking: Asking[] = [];
  /** Whether there is a session, or will be one soon, and nobody has asked to release it. */
  #inUse: Promise<unknown> | null = null;
  #alive = true;
  #problem = 'without saying why';

  /** Starts a thread. `model` is one whose weights are brought to it apart, as {@link withExternalWeights} makes it. `onEnd` hears when it has ended. */
  constructor(model: ThreadModel, params: Parameters, onEnd: () => void) {
    const { port1, port2 } = new MessageChannel();
    const words = linkWords();
    const { source, options, inputNames } = model;
    const link = { words, port: port2 };
    const workerData: BuildingSetup = { model: source, options, inputNames, weights: params.share(), link };
    const { worker, ended } = startLinkedThread(buildingThread, 'rxgrad rebuild', link, params, workerData);
    this.#model = model;
    this.#worker = worker;
    this.#link = new LinkClient({ words, port: port1 }, inputNames, this.#worker);
    this.#onEnd = onEnd;
    this.#worker.on('message', this.#hear).on('error', (error) => {
      this.#problem = error.message;
    });
    this.#ended = ended.then(() => this.#end());
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** Runs on their way. */
  get waiting(): number {
    return this.#link.waiting;
  }

  /** Copies the live weights to where a session can be built of them, and tells what they are. */
  async copy(to: SharedArrayBuffer): Promise<SlotFacts> {
    const { facts } = await this.#ask({ kind: 'copy', to }, 'copied');
    return facts;
  }

  /** Builds a session of a copy and runs some requests through it. To be released before the next. */
  async build(from: SharedArrayBuffer, facts: SlotFacts, requests: readonly PlainFeeds[]): Promise<Opening> {
    this.#link.reopen();
    const built = this.#ask({ kind: 'build', from, facts, requests }, 'built');
    this.#inUse = built;
    try {
      const { opening } = await built;
      this.#link.outputNames = opening.outputs.map(({ name }) => name);
      return opening;
    } catch (error) {
      this.#inUse = null;
      throw error;
    }
  }

  /** Not to be called while as many runs are on their way as the link has lanes. */
  run(feeds: Feeds): Promise<RunResult> {
    if (!this.#alive) return Promise.reject(this.#error());
    return this.#link.run(feeds, null);
  }

  /** Lets what is on its way end, and releases the session if there is one. */
  async release(): Promise<void> {
    const built = this.#inUse;
    this.#inUse = null;
    if (!built || !this.#alive) return;
    this.#link.close();
    await built.then(() => this.#answer('released')).catch(() => {});
  }

  /** Ends the thread, when it has ended what it is at. */
  async close(): Promise<void> {
    await this.release();
    this.#post({ kind: 'end' });
    await this.#ended;
  }

  #ask<K extends Kind>(task: BuildingTask, kind: K): Promise<Extract<BuildingAnswer, { kind: K }>> {
    const answer = this.#answer(kind);
    this.#post(task);
    return answer;
  }

  /** The thread answers in the order of what it is asked. */
  #answer<K extends Kind>(kind: K): Promise<Extract<BuildingAnswer, { kind: K }>> {
    if (!this.#alive) return Promise.reject(this.#error());
    return new Promise((resolve, reject) => {
      this.#asking.push({ kind, resolve: resolve as Asking['resolve'], reject });
    });
  }

  #post(task: BuildingTask): void {
    if (!this.#alive) return;
    this.#worker.ref();
    this.#worker.postMessage(task);
  }

  readonly #hear = (answer: BuildingAnswer): void => {
    const asking = this.#asking.shift();
    if (this.#asking.length === 0 && this.#link.waiting === 0) this.#worker.unref();
    if (!asking) return;
    if (answer.kind === asking.kind) asking.resolve(answer);
    else asking.reject(new Error(answer.kind === 'failed' ? answer.problem : `${answer.kind} came instead of ${asking.kind}`));
  };

  #end(): void {
    this.#alive = false;
    const error = this.#error();
    this.#link.fail(error);
    for (const { reject } of this.#asking.splice(0)) reject(error);
    this.#onEnd();
  }

  #error(): RxgradError {
    const problem = `the thread that ran it ended (${this.#problem})`;
    return new RxgradError('predictionFailed', { model: this.#model.source.name, problem });
  }
}
