import { InferenceSession, listSupportedBackends } from 'onnxruntime-node';
import { RxgradError } from '../errors.ts';

/** A model as a session is opened on it. Survives `postMessage` and `workerData`. */
export interface ModelSource {
  /** What errors call it. */
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Where its files of external data are. */
  readonly folder: string | undefined;
}

/** A model as threads run it. */
export interface ThreadModel {
  readonly source: ModelSource;
  readonly options: InferenceSession.SessionOptions;
  readonly inputNames: readonly string[];
}

/** What a model gives. */
export interface ModelOutput {
  readonly name: string;
  /** As onnxruntime names it (`float32`, `int64`, …). */
  readonly type: string;
  /** A number where it is fixed, else its symbolic name (`?` where it has none). */
  readonly dims: readonly (number | string)[];
}

/** What there is to tell of an open session. Survives `postMessage`. */
export interface Opening {
  readonly outputs: readonly ModelOutput[];
  /** The execution providers that it has, most preferred first; `cpu` is the last. */
  readonly providers: readonly string[];
  /** Why they are not all that were asked for, in words; null where they are. */
  readonly fallback: string | null;
}

type SessionOptions = InferenceSession.SessionOptions;
type Provider = NonNullable<SessionOptions['executionProviders']>[number];

/** Those that onnxruntime-node has on one platform or another. */
const knownProviders = ['cpu', 'coreml', 'cuda', 'dml', 'qnn', 'tensorrt', 'webgpu'];

/** y = x, of one float32: what any provider that is there can open. */
const smallestModel = Buffer.from(
  'CAg6NwoQCgF4EgF5IghJZGVudGl0eRIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEA0=',
  'base64',
);

/**
 * Opens onnxruntime's session, on one thread unless the options say otherwise. Of the execution providers that are asked for,
 * those that are not there, or that do not take the model, are left out; what is left is tried in its order, and the CPU last.
 */
export async function openSession(
  model: ModelSource,
  options: SessionOptions = {},
): Promise<{ readonly session: InferenceSession; readonly opening: Opening }> {
  const asked = providersOf(options);
  const reasons = new Map<string, string>();
  for (const provider of asked.slice(0, -1)) {
    const problem = await problemWith(provider);
    if (problem !== null) reasons.set(nameOf(provider), problem);
  }
  let left = asked.filter((provider) => !reasons.has(nameOf(provider)));
  for (;;) {
    try {
      const session = await InferenceSession.create(model.bytes, { ...withDefaults(model, options), executionProviders: left });
      const providers = left.map(nameOf);
      const fallback = reasons.size === 0 ? null : fallbackOf(asked.map(nameOf), reasons, providers);
      return { session, opening: { outputs: outputsOf(session), providers, fallback } };
    } catch (cause) {
      const [first, ...rest] = left;
      // If the CPU cannot open it, nothing is wrong with the others.
      if (rest.length === 0) throw refused(model, cause);
      reasons.set(nameOf(first!), firstLineOf(cause));
      left = rest;
    }
  }
}

/** What is asked for, each once, with the CPU at the end. */
function providersOf({ executionProviders = [] }: SessionOptions): Provider[] {
  const byName = new Map<string, Provider>();
  for (const provider of Array.isArray(executionProviders) ? executionProviders : [executionProviders]) {
    const name = typeof provider === 'string' ? provider : provider?.name;
    if (typeof name !== 'string' || !knownProviders.includes(name)) {
      throw new RxgradError('invalidOption', {
        option: 'session: executionProviders',
        expected: knownProviders.join(', '),
        got: String(name),
      });
    }
    if (!byName.has(name)) byName.set(name, provider);
  }
  const cpu = byName.get('cpu') ?? 'cpu';
  byName.delete('cpu');
  return [...byName.values(), cpu];
}

const problems = new Map<string, Promise<string | null>>();

/** Why a provider cannot be used here; null where it can. Asked once: onnxruntime writes lines of its own on every failure. */
function problemWith(provider: Provider): Promise<string | null> {
  const key = JSON.stringify(provider);
  let problem = problems.get(key);
  if (!problem) {
    problem = tryOut(provider);
    problems.set(key, problem);
  }
  return problem;
}

async function tryOut(provider: Provider): Promise<string | null> {
  if (!listSupportedBackends().some(({ name }) => name === nameOf(provider))) {
    return `onnxruntime-node has none for ${process.platform} on ${process.arch}`;
  }
  try {
    const session = await InferenceSession.create(smallestModel, { executionProviders: [provider], logSeverityLevel: 4 });
    await session.release();
    return null;
  } catch (cause) {
    return firstLineOf(cause);
  }
}

function withDefaults({ folder }: Pick<ModelSource, 'folder'>, options: SessionOptions): SessionOptions {
  const own = { intraOpNumThreads: 1, interOpNumThreads: 1, ...options };
  if (folder === undefined) return own;
  const { session, ...extra } = (options.extra ?? {}) as { session?: Readonly<Record<string, unknown>> };
  return { ...own, extra: { ...extra, session: { model_external_initializers_file_folder_path: folder, ...session } } };
}

function fallbackOf(asked: readonly string[], reasons: ReadonlyMap<string, string>, used: readonly string[]): string {
  const why = [...reasons].map(([name, reason]) => `${name}: ${reason}`).join('; ');
  return `Expected the execution providers ${asked.join(', ')}, but not all are there (${why}). In use: ${used.join(', ')}`;
}

const told = new Set<string>();

/** Warns of other execution providers than were asked for: once of the same, however many sessions are opened. */
export function tellFallback({ fallback }: Opening): void {
  if (fallback === null || told.has(fallback)) return;
  told.add(fallback);
  process.emitWarning(fallback, { code: 'RXGRAD_PROVIDER_MISSING' });
}

/** Lists what a session gives, in order: onnxruntime knows shapes that the file does not tell. */
function outputsOf({ outputMetadata }: InferenceSession): ModelOutput[] {
  return outputMetadata.map((output) => {
    if (!output.isTensor) return { name: output.name, type: 'not a tensor', dims: [] };
    return { name: output.name, type: output.type, dims: output.shape.map((dim) => dim || '?') };
  });
}

/** Of what onnxruntime says, which begins with places in its sources. */
function firstLineOf(cause: unknown): string {
  const [line = ''] = (cause as Error).message.trim().split('\n');
  return line.length > 300 ? `…${line.slice(-300)}` : line;
}

function nameOf(provider: Provider): string {
  return typeof provider === 'string' ? provider : provider.name;
}

function refused({ name }: Pick<ModelSource, 'name'>, cause: unknown): RxgradError {
  const got = `one that onnxruntime refuses: ${(cause as Error).message}`;
  return new RxgradError('invalidModel', { model: name, got }, { cause });
}
