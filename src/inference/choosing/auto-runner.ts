import type { RxgradError } from '../../errors.ts';
import { channels } from '../../observe/channels.ts';
import type { Slot } from '../../params/left-right.ts';
import type { Parameters } from '../../params/parameters.ts';
import type { ThreadModel } from '../open-session.ts';
import { type PlainFeeds, tensorsOf } from '../rebuilding/plain-feeds.ts';
import { RebuildRunner } from '../rebuilding/rebuild-runner.ts';
import type { Feeds, Runner, RunResult } from '../runner.ts';
import { LoadWatch } from './load-watch.ts';
import { type ChoiceLimits, chooseStrategy, type Strategy, type StrategyFigures } from './strategy-choice.ts';

export interface AutoOptions extends ChoiceLimits {
  /** Between two builds at least. */
  readonly everyMs: number;
  /** Whether inputs runs on this thread. */
  readonly isLocal: boolean;
  /** Measures both strategies with some requests: see {@link tryStrategies}. */
  readonly measure: (requests: readonly PlainFeeds[]) => Promise<Omit<StrategyFigures, 'batch'>>;
  /** Between two times that it measures at least. */
  readonly measureEveryMs: number;
}

/** What was taken, and why. */
export interface StrategyStatus extends Partial<StrategyFigures> {
  readonly taken: Strategy;
  readonly reason: string;
}

/** Runs before the first trial, and between two looks at the load. */
const FIRST_RUNS = 64;
const RUNS_BETWEEN = 256;
/** A typical batch so many times as large, or as small, is another load. */
const OTHER_BATCH = 2;
/** After which weights do not stay as they are for a build any longer. */
const LONGEST_FREEZE_MS = 5000;

/**
 * Runs the model with its weights as inputs or as constants, whichever is the better for the model and what is asked of it: that
 * is measured, and measured again when it has changed. Begins with inputs, which serve at once.
 *
 * At a change to constants the live version stays until a session of it serves and what ran before has ended: so that no
 * client sees versions go backwards. Training goes on meanwhile.
 */
export class AutoRunner implements Runner {
  onCapacity: (() => void) | null = null;
  readonly #name: string;
  readonly #model: ThreadModel;
  readonly #params: Parameters;
  readonly #inputs: Runner;
  readonly #options: AutoOptions;
  readonly #watch = new LoadWatch();
  #rebuild: RebuildRunner | null = null;
  /** Runs over the live weights that are under way in each. */
  readonly #running = { inputs: 0, rebuild: 0 };
  #taken: Strategy = 'inputs';
  #reason = 'nothing was measured so far';
  #isTold = false;
  #figures: StrategyFigures | null = null;
  #nextLook = FIRST_RUNS;
  #triedAt = -Infinity;
  #looking: Promise<void> | null = null;
  #whenInputsEnd: (() => void) | null = null;
  #closed = false;

  /** `inputs` is the runner's from now on, and closed with it. */
  constructor(model: ThreadModel, params: Parameters, inputs: Runner, options: AutoOptions) {
    this.#name = model.source.name;
    this.#model = model;
    this.#params = params;
    this.#inputs = inputs;
    this.#options = options;
    inputs.onCapacity = () => this.onCapacity?.();
  }

  get capacity(): number {
    // What began before a change has been counted by whoever asks.
    const { inputs, rebuild } = this.#running;
    if (this.#taken === 'inputs') return this.#inputs.capacity && this.#inputs.capacity + rebuild;
    return this.#rebuild!.capacity && this.#rebuild!.capacity + inputs;
  }

  get running(): number | null {
    return this.#taken === 'inputs' && this.#options.isLocal ? this.#running.inputs + this.#running.rebuild : null;
  }

  get failure(): RxgradError | null {
    return this.#taken === 'inputs' ? this.#inputs.failure : this.#rebuild!.failure;
  }

  get status(): StrategyStatus {
    return { taken: this.#taken, reason: this.#reason, ...this.#figures };
  }

  /** The version that predictions use now, where it is not the live one. */
  get version(): number | null {
    return this.#taken === 'rebuild' ? this.#rebuild!.version : null;
  }

  async run(feeds: Feeds, slot: Slot | null): Promise<RunResult> {
    if (slot !== null) return this.#inputs.run(feeds, slot);
    const taken = this.#taken;
    this.#running[taken]++;
    try {
      const runner = taken === 'inputs' ? this.#inputs : this.#rebuild!;
      return await runner.run(feeds, null);
    } finally {
      if (--this.#running[taken] === 0 && taken === 'inputs') this.#whenInputsEnd?.();
      this.#note(feeds);
    }
  }

  /** To be told when others may be live. */
  changed(): void {
    this.#watch.noteVersion(this.#params.liveVersion);
    this.#rebuild?.changed();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#looking;
    await Promise.all([this.#inputs.close(), this.#rebuild?.close()]);
  }

  #note(feeds: Feeds): void {
    this.#watch.note(feeds, this.#params.liveVersion);
    if (this.#watch.runs < this.#nextLook || this.#looking || this.#closed) return;
    this.#looking = this.#look().finally(() => {
      this.#nextLook = this.#watch.runs + RUNS_BETWEEN;
      this.#looking = null;
    });
  }

  async #look(): Promise<void> {
    if (this.#isToTry) await this.#try();
    const figures = this.#figures;
    if (!figures || this.#closed) return;
    // What builds take beside the load is known better than a trial tells.
    const buildMs = this.#rebuild?.buildMs || figures.buildMs;
    this.#figures = { ...figures, buildMs };
    const choice = chooseStrategy(this.#figures, this.#watch.load(), this.#options, this.#taken);
    const everyMs = Math.max(this.#options.everyMs, choice.pauseMs);
    if (choice.taken === this.#taken) {
      if (this.#rebuild) this.#rebuild.everyMs = everyMs;
      // The first choice is told, be it for what is in use.
      if (this.#isTold) this.#reason = choice.reason;
      else this.#tell(choice.reason);
    } else if (choice.taken === 'inputs') {
      await this.#takeInputs(choice.reason);
    } else {
      await this.#takeRebuild(choice.reason, everyMs);
    }
  }

  get #isToTry(): boolean {
    if (this.#watch.samples.length === 0 || performance.now() - this.#triedAt < this.#options.measureEveryMs) return false;
    if (!this.#figures) return true;
    const change = Math.max(this.#watch.load().batch, 1) / Math.max(this.#figures.batch, 1);
    return change >= OTHER_BATCH || change <= 1 / OTHER_BATCH;
  }

  async #try(): Promise<void> {
    try {
      const { batch } = this.#watch.load();
      const times = await this.#options.measure(this.#watch.samples);
      this.#figures = { batch, ...times };
    } catch (error) {
      if (this.#figures === null) this.#reason = `it could not be measured: ${(error as Error).message}`;
    }
    this.#triedAt = performance.now();
  }

  async #takeInputs(reason: string): Promise<void> {
    const rebuild = this.#rebuild!;
    this.#taken = 'inputs';
    this.onCapacity?.();
    this.#tell(reason);
    await rebuild.close();
    this.#rebuild = null;
  }

  async #takeRebuild(reason: string, everyMs: number): Promise<void> {
    const kept = { run: (feeds: Feeds, slot: Slot) => this.#inputs.run(feeds, slot), close: async () => {} };
    const { workers } = this.#options;
    const rebuild = new RebuildRunner(this.#model, this.#params, { workers, everyMs, kept });
    const request = tensorsOf(this.#watch.samples.at(-1)!);
    const { leftRight } = this.#params;
    let stays: NodeJS.Timeout | null = null;
    const thaw = (): void => {
      if (!stays) return;
      clearTimeout(stays);
      stays = null;
      leftRight.thaw();
    };
    try {
      // Once for the threads to start, and once for versions to stay no longer than they must.
      await rebuild.build(request);
      leftRight.freeze();
      stays = setTimeout(thaw, LONGEST_FREEZE_MS);
      await rebuild.build(request);
      // It took too long, or somebody has pinned another version meanwhile.
      if (!stays || !rebuild.isUpToDate || this.#closed) throw new Error('what is live has changed meanwhile');
      this.#serve(rebuild, reason);
      await this.#inputsEnd();
    } catch (error) {
      await rebuild.close();
      this.#reason = `constants could not be taken: ${(error as Error).message}`;
    } finally {
      thaw();
    }
  }

  #serve(rebuild: RebuildRunner, reason: string): void {
    rebuild.onCapacity = () => this.onCapacity?.();
    this.#rebuild = rebuild;
    this.#taken = 'rebuild';
    this.onCapacity?.();
    this.#tell(reason);
  }

  /** Resolves when no run over the live weights is under way with them as inputs. */
  #inputsEnd(): Promise<void> {
    if (this.#running.inputs === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#whenInputsEnd = resolve;
    });
  }

  #tell(reason: string): void {
    this.#reason = reason;
    this.#isTold = true;
    if (channels.strategy.hasSubscribers) {
      channels.strategy.publish({ kind: 'strategy', at: this.#name, taken: this.#taken, reason });
    }
  }
}
