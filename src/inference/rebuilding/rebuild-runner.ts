import { setTimeout as pause } from 'node:timers/promises';
import { RxgradError } from '../../errors.ts';
import type { Slot } from '../../params/left-right.ts';
import type { Parameters } from '../../params/parameters.ts';
import type { Opening, ThreadModel } from '../open-session.ts';
import type { Feeds, Runner, RunResult } from '../runner.ts';
import { plainFeeds } from './plain-feeds.ts';
import { SessionSet } from './session-set.ts';

export interface RebuildOptions {
  /** Threads that serve; as many build meanwhile. */
  readonly workers: number;
  /** Between two builds at least. */
  readonly everyMs: number;
  /** Runs versions that are kept. Closed with the runner. */
  readonly kept: { run(feeds: Feeds, slot: Slot): Promise<RunResult>; close(): Promise<void> };
}

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 10_000;
const RECENT_BUILDS = 9;

/**
 * Runs sessions in which the weights are constants, which onnxruntime can lay out as its kernels like them best. Other weights
 * need other sessions: while one set of threads serves, another builds them of the live version, and all predictions go to that
 * one from one moment on, so that versions never go backwards. Then the first set builds.
 *
 * A build that fails leaves what serves; it is tried again after a pause that doubles.
 */
export class RebuildRunner implements Runner {
  onCapacity: (() => void) | null = null;
  readonly #model: ThreadModel;
  readonly #params: Parameters;
  readonly #options: RebuildOptions;
  /** What the next sessions are built of: used again. */
  readonly #copy: SharedArrayBuffer;
  readonly #closing = new AbortController();
  #everyMs: number;
  #serving: SessionSet;
  #idle: SessionSet;
  /** What new sessions are run with before they serve: the last of what was predicted. */
  #request: Feeds | null = null;
  #opening: Opening = { outputs: [], providers: [], fallback: null };
  readonly #laps: number[] = [];
  #builtAt = 0;
  #pauseMs = 0;
  #problem = '';
  #building: Promise<void> | null = null;
  #closed = false;

  /** Starts the threads. Serves after {@link build}. */
  constructor(model: ThreadModel, params: Parameters, options: RebuildOptions) {
    this.#model = model;
    this.#params = params;
    this.#options = options;
    this.#everyMs = options.everyMs;
    this.#copy = new SharedArrayBuffer(params.byteLength);
    this.#serving = new SessionSet(model, params, options.workers);
    this.#idle = new SessionSet(model, params, options.workers);
    for (const set of [this.#serving, this.#idle]) set.onLoss = () => this.#onLoss(set);
  }

  /** A runner that serves the live version, once `request` has gone through it. */
  static async open(
    model: ThreadModel,
    params: Parameters,
    options: RebuildOptions & { readonly request: Feeds | null },
  ): Promise<RebuildRunner> {
    const runner = new RebuildRunner(model, params, options);
    try {
      await runner.build(options.request);
    } catch (error) {
      await runner.close();
      throw error;
    }
    return runner;
  }

  get capacity(): number {
    // What is on its way in the set that goes has been counted by whoever asks.
    return this.#serving.capacity > 0 ? this.#serving.capacity + this.#idle.waiting : 0;
  }

  get failure(): RxgradError | null {
    if (this.#serving.capacity > 0 || this.#pauseMs === 0) return null;
    return new RxgradError('predictionFailed', { model: this.#model.source.name, problem: this.#problem });
  }

  get opening(): Opening {
    return this.#opening;
  }

  /** The version that predictions use now. */
  get version(): number | null {
    return this.#serving.facts?.version ?? null;
  }

  /** What the last builds took at the median, from the copy until they served. */
  get buildMs(): number {
    // Of two the lesser: in the first one the threads had to start.
    return this.#laps.toSorted((a, b) => a - b)[(this.#laps.length - 1) >> 1] ?? 0;
  }

  /** The least time between two builds. */
  set everyMs(everyMs: number) {
    this.#everyMs = everyMs;
  }

  /** Whether what is served is what is live. */
  get isUpToDate(): boolean {
    const { leftRight } = this.#params;
    const live = leftRight.facts(leftRight.live);
    const served = this.#serving.facts;
    return live.version === served?.version && live.madeAtMs === served.madeAtMs;
  }

  async run(feeds: Feeds, slot: Slot | null): Promise<RunResult> {
    if (slot !== null) return this.#options.kept.run(feeds, slot);
    this.changed();
    const result = await this.#serving.run(feeds);
    this.#request = feeds;
    return result;
  }

  /** To be told when others may be live. Each run looks, too. */
  changed(): void {
    if (!this.#building && !this.#closed && this.#isBehind) this.#building = this.#keepUp();
  }

  /** Builds the live version now, and serves it. */
  async build(request: Feeds | null = this.#request): Promise<void> {
    const begun = performance.now();
    const set = this.#idle;
    this.#opening = await set.build(this.#copy, request ? [plainFeeds(request)] : []);
    [this.#serving, this.#idle] = [set, this.#serving];
    this.#builtAt = performance.now();
    this.#laps.push(this.#builtAt - begun);
    if (this.#laps.length > RECENT_BUILDS) this.#laps.shift();
    this.#pauseMs = 0;
    this.onCapacity?.();
    await this.#idle.release();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#closing.abort();
    await this.#building;
    await Promise.all([this.#serving.close(), this.#idle.close(), this.#options.kept.close()]);
  }

  get #isBehind(): boolean {
    return this.#serving.isShort || !this.isUpToDate;
  }

  /** Builds until what is served is what is live. */
  async #keepUp(): Promise<void> {
    while (!this.#closed && this.#isBehind) {
      const left = this.#builtAt + this.#everyMs - performance.now();
      await this.#wait(Math.max(this.#pauseMs, this.#serving.isShort ? 0 : left));
      if (this.#closed) break;
      try {
        await this.build();
      } catch (error) {
        this.#fail((error as Error).message);
      }
    }
    this.#building = null;
  }

  async #wait(ms: number): Promise<void> {
    if (ms > 0) await pause(ms, undefined, { ref: false, signal: this.#closing.signal }).catch(() => {});
  }

  #fail(problem: string): void {
    this.#problem = problem;
    const isFirst = this.#pauseMs === 0;
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS, 2 * this.#pauseMs));
    if (isFirst && !this.#closed) {
      const served = this.version;
      const stays = served === null ? 'Nothing serves' : `Version ${served} stays in use`;
      const message = `${this.#model.source.name}: no session could be built of the live weights: ${problem}. ${stays} until one can`;
      process.emitWarning(message, { code: 'RXGRAD_REBUILD_FAILED' });
    }
    this.onCapacity?.();
  }

  #onLoss(set: SessionSet): void {
    if (set !== this.#serving) return;
    this.onCapacity?.();
    this.changed();
  }
}
