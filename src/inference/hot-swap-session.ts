import type { InferenceSession } from 'onnxruntime-node';
import { assertNoDifferences, RxgradError } from '../errors.ts';
import { channels } from '../observe/channels.ts';
import type { ParameterSpec } from '../params/layout.ts';
import { Parameters } from '../params/parameters.ts';
import { assertFeeds } from './feeds.ts';
import { LocalRunner } from './local-runner.ts';
import { type Model, type ModelInput, modelInputs, readModel } from './onnx/model.ts';
import { trainableInitializers } from './onnx/trainable-initializers.ts';
import { withWeightsAsInputs } from './onnx/with-weights-as-inputs.ts';
import { openSession } from './open-session.ts';
import type { Feeds, Outputs, Runner } from './runner.ts';
import { type KeepVersionsOptions, type VersionEntry, type VersionSource, Versions } from './versions.ts';

export interface HotSwapSessionOptions {
  /** Initializers that become swappable weights. Default: the float32 ones of rank 1 and up that are not mere settings. */
  readonly trainable?: readonly string[];
  /** Passed on to onnxruntime. Default: one thread (`intraOpNumThreads: 1`), which is fastest for small models. */
  readonly session?: InferenceSession.SessionOptions;
  /** Keeps some of the versions that go live, to go back to. Default: none by itself, see {@link HotSwapSession.keep}. */
  readonly keep?: KeepVersionsOptions;
  /** Where versions can be gone back to that are not in memory. */
  readonly checkpoints?: VersionSource;
}

/** What a model made of its inputs, and the number of the weights that it did so with. */
export interface Prediction {
  readonly outputs: Outputs;
  readonly version: number;
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
  readonly outputNames: readonly string[];
  readonly #runner: Runner;
  readonly #versions: Versions;
  #open = true;

  /**
   * Reads an ONNX file (path or bytes) and opens a session on it. `params` shares weights that exist already, for instance
   * with another session; without it they come from the model.
   */
  static async load(
    onnx: string | Uint8Array,
    params?: Parameters,
    options: HotSwapSessionOptions = {},
  ): Promise<HotSwapSession> {
    const model = readModel(onnx);
    const specs = specsOf(model, options.trainable);
    if (params) assertSameParameters(params, specs);
    const { bytes } = withWeightsAsInputs(model, Object.keys(specs));
    const session = await openSession({ ...model, bytes }, options.session);
    const own = params ?? Parameters.create(specs);
    if (!own.finite) throw new RxgradError('weightsNotFinite', { version: own.version });
    return new HotSwapSession(model, session, own, options);
  }

  private constructor(model: Model, session: InferenceSession, params: Parameters, options: HotSwapSessionOptions) {
    this.model = model.name;
    this.params = params;
    this.inputs = modelInputs(model);
    this.outputNames = session.outputNames;
    this.#runner = new LocalRunner(session, params.reader());
    this.#versions = new Versions(params, options.keep, options.checkpoints ?? null);
  }

  /** The number of the weights that predictions use now. */
  get version(): number {
    return this.params.liveVersion;
  }

  /** Runs the model. Feeds are onnxruntime tensors by input name. */
  async predict(feeds: Feeds): Promise<Prediction> {
    if (!this.#open) throw new RxgradError('sessionClosed', { model: this.model });
    assertFeeds(this.model, this.inputs, feeds);
    try {
      const { outputs, weights, durationMs } = await this.#runner.run(feeds, null);
      const { version } = weights;
      if (channels.prediction.hasSubscribers) {
        channels.prediction.publish({ kind: 'prediction', at: this.model, version, durationMs });
      }
      return { outputs, version };
    } catch (cause) {
      throw new RxgradError('predictionFailed', { model: this.model, problem: (cause as Error).message }, { cause });
    }
  }

  /** Makes the newest weights of {@link params} the ones that predictions use. */
  swap(): void {
    if (this.params.swap()) this.#versions.note();
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

  /** Releases onnxruntime's session. The parameters stay. */
  async dispose(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await this.#runner.close();
  }
}

function specsOf(model: Model, trainable: readonly string[] | undefined): Record<string, Required<ParameterSpec>> {
  const weights = trainableInitializers(model, trainable);
  if (weights.length === 0) {
    throw new RxgradError('unsupportedModel', {
      model: model.name,
      problem: 'it has no float32 initializer of rank 1 or more to train',
      advice: 'Export it with its weights as initializers, or name them through the option `trainable`',
    });
  }
  return Object.fromEntries(weights.map(({ name, dims, data }) => [name, { dims, data }]));
}

function assertSameParameters(params: Parameters, specs: Readonly<Record<string, ParameterSpec>>): void {
  const differences = [
    ...Object.entries(specs).flatMap(([name, { dims }]) => {
      if (!params.has(name)) return [`"${name}" [${dims}] is missing`];
      const own = params.get(name).dims;
      return String(own) === String(dims) ? [] : [`"${name}" is [${dims}] in the model, [${own}] in the parameters`];
    }),
    ...params.names.filter((name) => !(name in specs)).map((name) => `"${name}" is not in the model`),
  ];
  assertNoDifferences(differences);
}
