import { Tensor } from 'onnxruntime-node';
import type { ModelInput } from './onnx/model.ts';
import type { ModelOutput } from './open-session.ts';
import type { Feeds, Outputs } from './runner.ts';

type Elements = Float32Array;
type ElementsConstructor = new (length: number) => Elements;

/**
 * Whether predictions can be put together: every input's first dimension is the same unknown, and every output's is one, too.
 * Types that pack several elements into a byte cannot be cut.
 */
export function isBatchable(inputs: readonly ModelInput[], outputs: readonly ModelOutput[]): boolean {
  const symbols = new Set(inputs.map(({ dims }) => dims?.[0]));
  const [symbol] = symbols;
  return (
    symbols.size === 1 &&
    typeof symbol === 'string' &&
    outputs.every(({ dims }) => typeof dims[0] === 'string') &&
    [...inputs, ...outputs].every(({ type }) => type !== 'uint4' && type !== 'int4')
  );
}

/** What predictions must have in common to be put together: types are the model's, so dimensions but the first. */
export class Signatures {
  readonly #inputs: readonly ModelInput[];
  /** Whether the model fixes them all. */
  readonly #fixed: boolean;

  constructor(inputs: readonly ModelInput[]) {
    this.#inputs = inputs;
    this.#fixed = inputs.every(({ dims }) => dims!.slice(1).every((dim) => typeof dim === 'number'));
  }

  /** Rows of a prediction; 0 where it has to run by itself. */
  rowsOf(feeds: Feeds): number {
    const rows = feeds[this.#inputs[0]!.name]!.dims[0]!;
    for (let i = 1; i < this.#inputs.length; i++) if (feeds[this.#inputs[i]!.name]!.dims[0] !== rows) return 0;
    return rows;
  }

  of(feeds: Feeds): string {
    if (this.#fixed) return '';
    return this.#inputs.map(({ name }) => feeds[name]!.dims.slice(1).join()).join(';');
  }
}

/** Puts predictions of one signature together, one below the other. */
export function joined(inputs: readonly ModelInput[], members: readonly Feeds[]): Feeds {
  return Object.fromEntries(inputs.map(({ name }) => [name, joinedTensor(members.map((feeds) => feeds[name]!))]));
}

/** Cuts what came of predictions put together. Null where it does not have as many rows. */
export function split(outputs: Outputs, rows: readonly number[]): Outputs[] | null {
  const total = rows.reduce((sum, count) => sum + count, 0);
  const entries = Object.entries(outputs);
  if (entries.some(([, { dims }]) => dims[0] !== total)) return null;
  let begin = 0;
  return rows.map((count) => {
    const parts: Record<string, Tensor> = {};
    for (const [name, { type, data, dims }] of entries) {
      const width = data.length / total;
      // A copy: whoever gets it must neither see others' rows nor keep them alive.
      const part = (data as Elements).slice(begin * width, (begin + count) * width);
      parts[name] = new Tensor(type, part, [count, ...dims.slice(1)]);
    }
    begin += count;
    return parts;
  });
}

function joinedTensor(tensors: readonly Tensor[]): Tensor {
  const [first] = tensors;
  const { type, dims, data } = first!;
  const rows = tensors.reduce((sum, tensor) => sum + tensor.dims[0]!, 0);
  const length = tensors.reduce((sum, tensor) => sum + tensor.data.length, 0);
  const all = type === 'string' ? ([] as string[]) : new (data.constructor as ElementsConstructor)(length);
  let at = 0;
  for (const { data: part } of tensors) {
    if (Array.isArray(all)) for (const text of part as string[]) all.push(text);
    else all.set(part as Elements, at);
    at += part.length;
  }
  return new Tensor(type, all as Elements, [rows, ...dims.slice(1)]);
}
