import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { ServedModel, ServedModels, TensorSignature } from './served-models.ts';

/** Names of the protocol's extensions that the server knows. */
export const extensions: readonly string[] = [
  'binary_tensor_data',
  'parameters',
  'model_configuration',
  'model_repository',
  'statistics',
];

export interface ServerMetadata {
  readonly name: string;
  readonly version: string;
  readonly extensions: readonly string[];
}

export interface ModelMetadata {
  readonly name: string;
  /** Kept versions by number, newest first, and the live one. */
  readonly versions: readonly string[];
  readonly platform: string;
  readonly inputs: readonly TensorSignature[];
  readonly outputs: readonly TensorSignature[];
}

/** A model as the repository extension lists it. */
export interface RepositoryEntry {
  readonly name: string;
  readonly version: string;
  readonly state: 'READY' | 'UNAVAILABLE';
  readonly reason: string;
}

const platform = 'onnx_onnxv1';

export function serverMetadata(): ServerMetadata {
  return { name: 'rxgrad', version: packageVersion(), extensions };
}

export async function modelMetadata(model: ServedModel): Promise<ModelMetadata> {
  return {
    name: model.name,
    versions: await versionsOf(model),
    platform,
    inputs: [...model.inputs.values()],
    outputs: [...model.outputs.values()],
  };
}

/** A model's configuration in the words of Triton's, as far as there is such a thing here. */
export function modelConfig(model: ServedModel) {
  const tensor = ({ name, datatype, shape }: TensorSignature) => ({
    name,
    data_type: datatype === 'BYTES' ? 'TYPE_STRING' : `TYPE_${datatype}`,
    dims: shape,
  });
  return {
    name: model.name,
    platform,
    backend: 'onnxruntime',
    // Shapes are given whole, with the batch.
    max_batch_size: 0,
    input: [...model.inputs.values()].map(tensor),
    output: [...model.outputs.values()].map(tensor),
  };
}

/** What was asked of a model since the server began, in the words of Triton's statistics. */
export function modelStatistics({ name, session, figures }: ServedModel) {
  const duration = (count: number, ms: number) => ({ count, ns: Math.round(ms * 1e6) });
  return {
    name,
    version: String(session.version),
    last_inference: figures.lastAtMs,
    inference_count: figures.answered,
    execution_count: figures.answered,
    inference_stats: {
      success: duration(figures.answered, figures.answeredMs),
      fail: duration(figures.failed, figures.failedMs),
    },
  };
}

/** What is there to be asked for; with `ready`, only what would answer. */
export function repositoryIndex(models: ServedModels, ready = false): RepositoryEntry[] {
  const entries = [...models].map((model): RepositoryEntry => {
    const version = String(model.session.version);
    if (model.ready) return { name: model.name, version, state: 'READY', reason: '' };
    return { name: model.name, version, state: 'UNAVAILABLE', reason: 'it is not warmed up yet' };
  });
  return ready ? entries.filter(({ state }) => state === 'READY') : entries;
}

async function versionsOf({ session }: ServedModel): Promise<string[]> {
  const numbers = new Set([session.version, ...(await session.versions()).map(({ version }) => version)]);
  return [...numbers].sort((a, b) => b - a).map(String);
}

let version: string | undefined;

function packageVersion(): string {
  version ??= JSON.parse(readFileSync(createRequire(import.meta.url).resolve('rxgrad/package.json'), 'utf8')).version as string;
  return version;
}
