import type { InferenceSession, Tensor } from 'onnxruntime-node';
import { assertNoDifferences, RxgradError } from '../errors.ts';
import { channels } from '../observe/channels.ts';
import type { ParameterSpec } from '../params/layout.ts';
import { Parameters } from '../params/parameters.ts';
import type { WeightsReader } from '../params/weights-reader.ts';
import { assertFeeds } from './feeds.ts';
import { type Model, type ModelInput, modelInputs, readModel } from './onnx/model.ts';
import { trainableInitializers } from './onnx/trainable-initializers.ts';
import { withWeightsAsInputs } from './onnx/with-weights-as-inputs.ts';
import { type OpenedSession, openSession } from './open-session.ts';
import { type Feeds, WeightFeeds } from './weight-feeds.ts';

export interface HotSwapSessionOptions {
  /** Initializers that become swappable weights. Default: the floating-point ones of rank 1 and up that are not mere settings. */
  readonly trainable?: readonly string[];
  /**
   * Passed on to onnxruntime. Default: one thread (`intraOpNumThreads: 1`), which is fastest for small models. Of
   * `executionProviders`, those that are not there are left out with a warning, and `cpu` comes last.
   */
  readonly session?: InferenceSession.SessionOptions;
}

/** What a model made of its inputs, and the number of the weights that it did so with. */
export interface Prediction {
  readonly outputs: Readonly<Record<string, Tensor>>;
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
  /** The execution providers in use, most preferred first. */
  readonly providers: readonly string[];
  readonly #session: InferenceSession;
  readonly #reader: WeightsReader;
  readonly #weights: WeightFeeds;
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
    const opened = await openSession(model, bytes, options.session);
    return new HotSwapSession(model, opened, params ?? Parameters.create(specs));
  }

  private constructor(model: Model, { session, providers }: OpenedSession, params: Parameters) {
    this.providers = providers;
    this.model = model.name;
    this.params = params;
    this.inputs = modelInputs(model);
    this.outputNames = session.outputNames;
    this.#session = session;
    this.#reader = params.reader();
    this.#weights = new WeightFeeds(this.#reader);
  }

  /** The number of the weights that predictions use now. */
  get version(): number {
    return this.#reader.liveVersion;
  }

  /** Runs the model. Feeds are onnxruntime tensors by input name. */
  async predict(feeds: Feeds): Promise<Prediction> {
    if (!this.#open) throw new RxgradError('sessionClosed', { model: this.model });
    assertFeeds(this.model, this.inputs, feeds);
    const run = this.#weights.begin(feeds);
    try {
      const outputs = this.#session.run(run.feeds);
      run.called();
      const prediction = { outputs: await outputs, version: run.version };
      this.#weights.observe(run);
      if (channels.prediction.hasSubscribers) {
        const durationMs = performance.now() - run.startedAt;
        channels.prediction.publish({ kind: 'prediction', at: this.model, version: run.version, durationMs });
      }
      return prediction;
    } catch (cause) {
      throw new RxgradError('predictionFailed', { model: this.model, problem: (cause as Error).message }, { cause });
    } finally {
      run.end();
    }
  }

  /** Makes the newest weights of {@link params} the ones that predictions use. */
  swap(): void {
    this.params.swap();
  }

  /** Releases onnxruntime's session. The parameters stay. */
  async dispose(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    this.#reader.close();
    await this.#session.release();
  }
}

function specsOf(model: Model, trainable: readonly string[] | undefined): Record<string, Required<ParameterSpec>> {
  const weights = trainableInitializers(model, trainable);
  if (weights.length === 0) {
    throw new RxgradError('unsupportedModel', {
      model: model.name,
      problem: 'it has no floating-point initializer of rank 1 or more to train',
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
