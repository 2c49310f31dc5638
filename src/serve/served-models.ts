import type { Tensor } from 'onnxruntime-node';
import { RxgradError } from '../errors.ts';
import type { Position } from '../events.ts';
import { type Datatype, datatypeOf } from './datatypes.ts';
import { ModelFigures } from './model-figures.ts';
import { shownText } from './shown-text.ts';

/** A model's input or output as onnxruntime describes it. */
export interface ServableTensor {
  readonly name: string;
  readonly type: string;
  /** A number where it is fixed, else its symbolic name; undefined where not even the rank is known. */
  readonly dims: readonly (number | string)[] | undefined;
}

export interface ServablePrediction {
  readonly outputs: Readonly<Record<string, Tensor>>;
  readonly version: number;
  readonly ageMs: number;
  readonly position: Position | null;
  readonly stale: boolean;
}

export interface ServableVersion {
  readonly version: number;
  readonly madeAtMs: number;
  readonly position: Position | null;
  readonly labels: readonly string[];
  readonly live: boolean;
  readonly pinned: boolean;
  readonly inMemory: boolean;
}

export interface ServablePredictOptions {
  readonly version?: number | string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly deadlineMs?: number | undefined;
}

/** What a server asks of a model: a `HotSwapSession` is one. */
export interface Servable {
  readonly inputs: readonly ServableTensor[];
  readonly outputs: readonly ServableTensor[];
  /** The number of the live weights. */
  readonly version: number;
  /** Whether it is warmed up. */
  readonly ready: boolean;
  readonly status: { readonly providers: readonly string[]; readonly workers: number; readonly queued: number };
  predict(feeds: Readonly<Record<string, Tensor>>, options?: ServablePredictOptions): Promise<ServablePrediction>;
  versions(): Promise<readonly ServableVersion[]>;
  rollback(version?: number | string): unknown;
  pin(version?: number | string): unknown;
  unpin(): unknown;
  label(version: number | string, name: string): unknown;
}

/** An input or output in the protocol's words: −1 for a size that varies. */
export interface TensorSignature {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
}

/** A model under the name that clients ask for. */
export class ServedModel {
  readonly name: string;
  readonly session: Servable;
  readonly figures = new ModelFigures();
  readonly inputs: ReadonlyMap<string, TensorSignature>;
  readonly outputs: ReadonlyMap<string, TensorSignature>;

  constructor(name: string, session: Servable) {
    this.name = name;
    this.session = session;
    this.inputs = signaturesOf(name, session.inputs);
    this.outputs = signaturesOf(name, session.outputs);
  }

  get ready(): boolean {
    return this.session.ready;
  }

  /** Fails where there is no such version; null stands for the live one. */
  async assertVersion(version: string | null): Promise<void> {
    if (version === null) return;
    const wanted = versionOf(version);
    const versions = await this.session.versions();
    if (versions.some((kept) => kept.version === wanted || kept.labels.includes(version))) return;
    const expected = versions.flatMap((kept) => [kept.version, ...kept.labels]).join(', ') || 'none';
    throw new RxgradError('unknownVersion', { store: this.name, expected, got: `"${shownText(version)}"` });
  }
}

/** The models of a server, by name. */
export class ServedModels implements Iterable<ServedModel> {
  readonly #models: ReadonlyMap<string, ServedModel>;

  constructor(sessions: Readonly<Record<string, Servable>>) {
    this.#models = new Map(Object.entries(sessions).map(([name, session]) => [name, new ServedModel(name, session)]));
  }

  find(name: string): ServedModel {
    const model = this.#models.get(name);
    if (model) return model;
    throw new RxgradError('unknownModel', { expected: [...this.#models.keys()].join(', ') || 'none', got: shownText(name) });
  }

  /** Whether every model is warmed up. */
  get ready(): boolean {
    for (const { ready } of this.#models.values()) if (!ready) return false;
    return true;
  }

  [Symbol.iterator](): Iterator<ServedModel> {
    return this.#models.values();
  }
}

/** Digits are the number of a version, other text is a label. */
export function versionOf(text: string): number | string {
  return /^\d{1,15}$/.test(text) ? Number(text) : text;
}

function signaturesOf(model: string, tensors: readonly ServableTensor[]): Map<string, TensorSignature> {
  return new Map(
    tensors.map(({ name, type, dims }) => {
      const datatype = datatypeOf(type);
      if (datatype) return [name, { name, datatype, shape: (dims ?? [-1]).map((dim) => (typeof dim === 'number' ? dim : -1)) }];
      const problem = `"${name}" is of ${type}, which the Open Inference Protocol cannot carry`;
      throw new RxgradError('unsupportedModel', { model, problem, advice: 'Serve a model with other inputs and outputs' });
    }),
  );
}
