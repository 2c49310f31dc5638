import type { InferenceSession } from 'onnxruntime-node';
import { RxgradError } from '../errors.ts';
import type { Parameters } from '../params/parameters.ts';
import { AutoRunner, type StrategyStatus } from './choosing/auto-runner.ts';
import { RunnerGroup } from './choosing/runner-group.ts';
import { tryStrategies } from './choosing/strategy-trial.ts';
import { madeUpRequest } from './made-up-request.ts';
import type { Model, ModelInput } from './onnx/model.ts';
import { withExternalWeights } from './onnx/with-external-weights.ts';
import { withWeightsAsInputs } from './onnx/with-weights-as-inputs.ts';
import { openRunners } from './open-runners.ts';
import type { ModelSource, Opening, ThreadModel } from './open-session.ts';
import { LateRunner } from './rebuilding/late-runner.ts';
import { RebuildRunner } from './rebuilding/rebuild-runner.ts';
import type { Feeds, Runner } from './runner.ts';

const MEASURE_EVERY_MS = 10_000;

/** How a session is to keep its weights up to date. */
export interface StrategySetup {
  readonly model: Model;
  readonly inputs: readonly ModelInput[];
  readonly params: Parameters;
  readonly strategy: 'inputs' | 'rebuild' | 'auto';
  readonly workers: number;
  readonly rebuildEveryMs: number;
  readonly maxStaleness?: { readonly ms?: number | undefined; readonly versions?: number | undefined } | undefined;
  readonly options: InferenceSession.SessionOptions;
}

/** What runs the model, and what there is to say of it. */
export interface OpenedStrategy {
  readonly runners: Runner[];
  readonly opening: Opening;
  readonly strategy: {
    readonly status: StrategyStatus;
    /** The version that predictions use now, where it is not the live one. */
    readonly version: number | null;
    /** To be told when others may be live. */
    changed(): void;
  };
}

/** Opens what runs a model by the strategy that was asked for. */
export async function openStrategy(setup: StrategySetup): Promise<OpenedStrategy> {
  if (setup.strategy === 'inputs') return openInputs(setup);
  if (setup.strategy === 'rebuild') return openRebuild(setup, 'it was asked for');
  let opened: OpenedStrategy;
  try {
    opened = await openInputs(setup);
  } catch (error) {
    if (!isAboutInputs(error)) throw error;
    return openRebuild(setup, `the model does not take its weights as inputs: ${error.message}`);
  }
  return openAuto(setup, opened);
}

/** Where constants may still work. */
function isAboutInputs(error: unknown): error is RxgradError {
  return error instanceof RxgradError && ['RXGRAD_UNSUPPORTED_MODEL', 'RXGRAD_INVALID_MODEL'].includes(error.code);
}

async function openInputs(setup: StrategySetup): Promise<OpenedStrategy> {
  const { inputs, params, workers, options } = setup;
  const { runners, opening } = await openRunners(asInputs(setup), inputs, params, workers, options);
  const status = { taken: 'inputs', reason: 'it was asked for' } as const;
  return { runners, opening, strategy: { status, version: null, changed: () => {} } };
}

async function openRebuild(setup: StrategySetup, reason: string): Promise<OpenedStrategy> {
  const { inputs, params, options } = setup;
  // Not when it is asked for: the model with all its weights would stay in memory until then.
  const source = asInputsOrError(setup);
  const kept = new LateRunner(async () => {
    if (source instanceof RxgradError) throw source;
    const { runners } = await openRunners(source, inputs, params, 1, options);
    return new RunnerGroup(runners);
  });
  const workers = Math.max(1, setup.workers);
  const request = firstRequest(setup);
  const runner = await RebuildRunner.open(asConstant(setup), params, { workers, everyMs: setup.rebuildEveryMs, kept, request });
  const strategy = {
    status: { taken: 'rebuild', reason } as const,
    get version() {
      return runner.version;
    },
    changed: () => runner.changed(),
  };
  return { runners: [runner], opening: runner.opening, strategy };
}

function openAuto(setup: StrategySetup, { runners, opening }: OpenedStrategy): OpenedStrategy {
  const { params, options, maxStaleness } = setup;
  const isLocal = setup.workers === 0;
  const constant = asConstant(setup);
  const models = { inputs: { source: asInputs(setup), options }, constant };
  const runner = new AutoRunner(constant, params, isLocal ? runners[0]! : new RunnerGroup(runners), {
    workers: Math.max(1, setup.workers),
    everyMs: setup.rebuildEveryMs,
    isLocal,
    measure: (requests) => tryStrategies(models, params, requests, isLocal),
    measureEveryMs: MEASURE_EVERY_MS,
    isUploaded: opening.providers[0] !== 'cpu',
    ms: maxStaleness?.ms,
    versions: maxStaleness?.versions,
  });
  return { runners: [runner], opening, strategy: runner };
}

function asInputs({ model, params }: StrategySetup): ModelSource {
  return { name: model.name, bytes: withWeightsAsInputs(model, params.names).bytes, folder: model.folder };
}

function asInputsOrError(setup: StrategySetup): ModelSource | RxgradError {
  try {
    return asInputs(setup);
  } catch (error) {
    return error as RxgradError;
  }
}

function asConstant({ model, inputs, params, options }: StrategySetup): ThreadModel {
  const { bytes, files } = withExternalWeights(model, params.places);
  return {
    source: { name: model.name, bytes, folder: model.folder },
    options: { ...options, externalData: [...(options.externalData ?? []), ...files] },
    inputNames: inputs.map(({ name }) => name),
  };
}

function firstRequest({ model, inputs }: StrategySetup): Feeds | null {
  try {
    return madeUpRequest(model.name, inputs, 1);
  } catch {
    return null;
  }
}
