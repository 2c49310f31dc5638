import { RxgradError } from '../errors.ts';
import { channels } from '../observe/channels.ts';
import { expectOption } from '../options.ts';
import { attention } from '../params/attention.ts';
import type { Slot } from '../params/left-right.ts';
import { Parameters } from '../params/parameters.ts';
import { assertFeeds } from './feeds.ts';
import { madeUpRequest } from './made-up-request.ts';
import { mixesRows } from './mixes-rows.ts';
import { assertSameParameters, specsOf } from './model-parameters.ts';
import { type ModelInput, modelInputs, readModel } from './onnx/model.ts';
import { type ModelOutput, tellFallback } from './open-session.ts';
import { type OpenedStrategy, openStrategy } from './open-strategy.ts';
import { Pool } from './pool.ts';
import type { Prediction, PredictOptions, SessionStatus } from './prediction.ts';
import { runError } from './run-batch.ts';
import type { Feeds, RunResult } from './runner.ts';
import { type HotSwapSessionOptions, parseSessionOptions, type StalenessOptions } from './session-options.ts';
import { StalenessLimit } from './staleness-limit.ts';
import { type VersionEntry, Versions } from './versions.ts';

export type { Prediction, PredictOptions, SessionStatus } from './prediction.ts';
export type { HotSwapSessionOptions, StalenessOptions } from './session-options.ts';

/** The longest that a timer can wait. */
const LONGEST_DEADLINE_MS = 2 ** 31 - 1;

interface OpenedModel {
  readonly name: string;
  readonly inputs: readonly ModelInput[];
  readonly outputs: readonly ModelOutput[];
  readonly providers: readonly string[];
}

/**
 * A live onnxruntime session whose weights are read in place from {@link Parameters}: a swap to other weights is the flip
 * of an index, whatever the model's size. A prediction sees the weights of one version.
 *
 * @example
 * const session = await HotSwapSession.load('model.onnx');
 * const { outputs, version } = await session.predict({ x: new Tensor('float32', [0.1, 0.2, 0.3], [1, 3]) });
 */
export class HotSwapSession {
  /** What errors and metrics call the model. */
  readonly model: string;
  readonly params: Parameters;
  /** The inputs that `predict` takes. */
  readonly inputs: readonly ModelInput[];
  readonly outputs: readonly ModelOutput[];
  readonly #pool: Pool;
  readonly #versions: Versions;
  readonly #strategy: OpenedStrategy['strategy'];
  readonly #staleness: StalenessLimit;
  readonly #providers: readonly string[];
  readonly #workers: number;
  readonly #maxBatch: number;
  #ready = false;
  #open = true;

  /**
   * Reads an ONNX file (path or bytes) and opens a session on it, or one a worker. `params` shares weights that exist already,
   * for instance with another session; without it they come from the model.
   */
  static async load(
    onnx: string | Uint8Array,
    params?: Parameters,
    options: HotSwapSessionOptions = {},
  ): Promise<HotSwapSession> {
    const parsed = parseSessionOptions(options);
    const model = readModel(onnx);
    const specs = specsOf(model, options.trainable);
    if (params) assertSameParameters(params, specs);
    const weights = params ?? Parameters.create(specs);
    if (!weights.finite) throw new RxgradError('weightsNotFinite', { version: weights.version });
    const inputs = modelInputs(model);
    // In the middle of a step there is nothing whole to be read, where there was no reader so far.
    while (weights.leftRight.written === weights.leftRight.live) await weights.whenFree();
    // A reader from the beginning: weights are never written in place while others come and go.
    const reader = weights.reader();
    try {
      const setup = { ...parsed, model, inputs, params: weights, options: options.session ?? {} };
      const { runners, opening, strategy } = await openStrategy(setup);
      const { outputs, providers } = opening;
      tellFallback(opening);
      const pool = new Pool({ name: model.name, inputs, outputs }, runners, reader, parsed);
      if (pool.batches && (await mixesRows(runners[0]!, inputs))) pool.runAlone('what it makes of a row depends on other rows');
      return new HotSwapSession(weights, { name: model.name, inputs, outputs, providers }, pool, strategy, parsed);
    } catch (error) {
      reader.close();
      throw error;
    }
  }

  private constructor(
    params: Parameters,
    { name, inputs, outputs, providers }: OpenedModel,
    pool: Pool,
    strategy: OpenedStrategy['strategy'],
    { workers, maxBatch, maxStaleness, keep, checkpoints }: ReturnType<typeof parseSessionOptions>,
  ) {
    this.model = name;
    this.params = params;
    this.inputs = inputs;
    this.outputs = outputs;
    this.#pool = pool;
    this.#strategy = strategy;
    this.#staleness = new StalenessLimit(name, maxStaleness as StalenessOptions | undefined);
    this.#versions = new Versions(params, keep, checkpoints ?? null);
    this.#providers = providers;
    this.#workers = workers;
    this.#maxBatch = maxBatch;
    params.leftRight.followers.add(this.#shown);
  }

  get outputNames(): readonly string[] {
    return this.outputs.map(({ name }) => name);
  }

  /** The number of the weights that predictions use now. */
  get version(): number {
    return this.#strategy.version ?? this.params.liveVersion;
  }

  /** Whether it was warmed up, for whoever asks before sending predictions; `predict` itself works before. */
  get ready(): boolean {
    return this.#ready && this.#open;
  }

  get status(): SessionStatus {
    const { queued, batches } = this.#pool;
    return { strategy: this.#strategy.status, providers: this.#providers, workers: this.#workers, queued, batches };
  }

  /** Runs the model. Feeds are onnxruntime tensors by input name, lent until the prediction is there. */
  async predict(feeds: Feeds, options?: PredictOptions): Promise<Prediction> {
    if (!this.#open) throw new RxgradError('sessionClosed', { model: this.model });
    assertFeeds(this.model, this.inputs, feeds);
    if (options?.deadlineMs !== undefined) assertDeadline(options.deadlineMs);
    const asked = options?.version;
    const slot = asked === undefined ? null : this.#slotOf(asked);
    const askedAtMs = performance.now();
    let result: RunResult;
    attention.begin();
    try {
      result = await this.#pool.ask(feeds, slot, options);
    } catch (error) {
      throw runError(this.model, error);
    } finally {
      attention.end();
    }
    const { outputs, weights, durationMs } = result;
    const facts = this.params.origins.factsOf(weights);
    const { version, position } = facts;
    // The live one was asked for, and went while the prediction waited: where it is kept now, it answers, else an error does.
    if (typeof asked === 'number' && version !== asked) return this.predict(feeds, inWhatIsLeft(options!, askedAtMs));
    if (channels.prediction.hasSubscribers) {
      channels.prediction.publish({ kind: 'prediction', at: this.model, version, durationMs });
    }
    const ageMs = Math.max(0, Date.now() - facts.madeAtMs);
    const stale = slot === null && this.#staleness.check(facts, ageMs, this.params.version);
    return { outputs, version, ageMs, position, stale };
  }

  /**
   * Runs requests on every worker before real ones come, which makes onnxruntime plan and allocate; `ready` from then on. Default:
   * requests made up from the model's inputs, of one row and of `maxBatch`.
   */
  async warmUp(requests?: Iterable<Feeds>, { runs = 3 }: { readonly runs?: number } = {}): Promise<void> {
    const rows = this.#maxBatch > 1 ? [1, this.#maxBatch] : [1];
    for (const feeds of requests ?? rows.map((count) => madeUpRequest(this.model, this.inputs, count))) {
      assertFeeds(this.model, this.inputs, feeds);
      await this.#pool.warmUp(feeds, runs);
    }
    this.#ready = true;
  }

  /** Makes the newest weights of {@link params} the ones that predictions use. */
  swap(): void {
    this.params.swap();
  }

  /** The versions that there are, newest first: the live one, those in memory, those in the checkpoints. */
  versions(): Promise<VersionEntry[]> {
    return this.#versions.list();
  }

  /** Keeps the live version in memory, under these names if there are any. */
  keep(labels: readonly string[] = []): Promise<VersionEntry> {
    return this.#versions.keep(labels);
  }

  /**
   * Makes an earlier version live, by its number or a label, and keeps it so until {@link unpin}; training goes on. Without
   * one: the newest in memory that is older than the live one.
   */
  rollback(version?: number | string): Promise<VersionEntry> {
    return this.#versions.rollback(version);
  }

  /** Keeps the live version live, or makes another one so, until {@link unpin}. */
  pin(version?: number | string): Promise<VersionEntry> {
    return this.#versions.pin(version);
  }

  /** Lets the newest weights go live again, or what a gate has chosen. */
  unpin(): VersionEntry {
    return this.#versions.unpin();
  }

  /** Gives a version a name, such as `stable`; whichever had it loses it. It stays in memory as long as it has one. */
  label(version: number | string, name: string): Promise<VersionEntry> {
    return this.#versions.label(version, name);
  }

  /** Whoever has shown other weights. */
  readonly #shown = (): void => {
    this.#versions.note();
    this.#strategy.changed();
  };

  /** Null stands for the live weights. */
  #slotOf(version: number | string): Slot | null {
    const { kept, liveVersion } = this.params;
    return version === liveVersion && !kept.has(version) ? null : kept.find(version).slot;
  }

  /** Waits for the predictions that are being computed, fails those that wait, and releases all sessions. The parameters stay. */
  async dispose(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    this.params.leftRight.followers.delete(this.#shown);
    await this.#pool.close();
  }
}

/** Options of a prediction that is asked for again: its time goes on. */
function inWhatIsLeft(options: PredictOptions, askedAtMs: number): PredictOptions {
  if (options.deadlineMs === undefined) return options;
  return { ...options, deadlineMs: Math.max(1, options.deadlineMs - (performance.now() - askedAtMs)) };
}

function assertDeadline(deadlineMs: number): void {
  const isPossible = deadlineMs > 0 && deadlineMs <= LONGEST_DEADLINE_MS;
  expectOption(isPossible, 'deadlineMs', `milliseconds above 0, up to ${LONGEST_DEADLINE_MS}`, deadlineMs);
}
