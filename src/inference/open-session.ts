import { InferenceSession, listSupportedBackends } from 'onnxruntime-node';
import { RxgradError } from '../errors.ts';
import type { Model } from './onnx/model.ts';

/** A session of onnxruntime, and the execution providers that it has, most preferred first; `cpu` is the last. */
export interface OpenedSession {
  readonly session: InferenceSession;
  readonly providers: readonly string[];
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
 * Opens a session on bytes of a model. Of the execution providers that are asked for, those that are not there, or that do not take
 * the model, are left out with one warning; what is left is tried in its order, and the CPU last.
 */
export async function openSession(
  model: Pick<Model, 'name' | 'folder'>,
  bytes: Uint8Array,
  options: SessionOptions = {},
): Promise<OpenedSession> {
  const asked = providersOf(options);
  const reasons = new Map<string, string>();
  for (const provider of asked.slice(0, -1)) {
    const problem = await problemWith(provider);
    if (problem !== null) reasons.set(nameOf(provider), problem);
  }
  let left = asked.filter((provider) => !reasons.has(nameOf(provider)));
  for (;;) {
    try {
      const session = await InferenceSession.create(bytes, { ...withDefaults(model, options), executionProviders: left });
      const providers = left.map(nameOf);
      if (reasons.size > 0) warn(asked.map(nameOf), reasons, providers);
      return { session, providers };
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

function withDefaults({ folder }: Pick<Model, 'folder'>, options: SessionOptions): SessionOptions {
  const own = { intraOpNumThreads: 1, interOpNumThreads: 1, ...options };
  if (folder === undefined) return own;
  const { session, ...extra } = (options.extra ?? {}) as { session?: Readonly<Record<string, unknown>> };
  return { ...own, extra: { ...extra, session: { model_external_initializers_file_folder_path: folder, ...session } } };
}

const warned = new Set<string>();

/** Once for the same providers: a pool opens many sessions. */
function warn(asked: readonly string[], reasons: ReadonlyMap<string, string>, used: readonly string[]): void {
  const why = [...reasons].map(([name, reason]) => `${name}: ${reason}`).join('; ');
  const text = `Expected the execution providers ${asked.join(', ')}, but not all are there (${why}). In use: ${used.join(', ')}`;
  if (warned.has(text)) return;
  warned.add(text);
  process.emitWarning(text, { code: 'RXGRAD_PROVIDER_MISSING' });
}

/** Of what onnxruntime says, which begins with places in its sources. */
function firstLineOf(cause: unknown): string {
  const [line = ''] = (cause as Error).message.trim().split('\n');
  return line.length > 300 ? `…${line.slice(-300)}` : line;
}

function nameOf(provider: Provider): string {
  return typeof provider === 'string' ? provider : provider.name;
}

function refused({ name }: Pick<Model, 'name'>, cause: unknown): RxgradError {
  const got = `one that onnxruntime refuses: ${(cause as Error).message}`;
  return new RxgradError('invalidModel', { model: name, got }, { cause });
}
