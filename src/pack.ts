import { RxgradError } from './errors.ts';
import { type TensorLayout, type TensorSpec, tensorLayout } from './payload.ts';

/** The touched rows of a table (rows along its first axis): their numbers, and their values one row after the other. */
export interface SparseRows {
  readonly indices: Int32Array | readonly number[];
  readonly values: Float32Array;
}

/** Gradients of one parameter: the elements in row-major order, with dims where the parameter's own are not meant; or rows. */
export type GradientInput =
  | Float32Array
  | { readonly dims: readonly number[]; readonly data: Float32Array }
  | (SparseRows & { readonly dims?: readonly number[] });

let lastLayout = tensorLayout([], 0);

/**
 * Writes gradients one after the other, and tells how they lie. Arrays without dims get those that `dimsOf` knows (of rows:
 * with their own count). Batches of the same form share a layout.
 */
export function pack(
  gradients: Readonly<Record<string, GradientInput>>,
  dimsOf: (name: string) => readonly number[] | null,
): { layout: TensorLayout; payload: Uint8Array } {
  const tensors: TensorSpec[] = [];
  const arrays: (Float32Array | Int32Array)[] = [];
  let end = 0;
  const add = (array: Float32Array | Int32Array): number => {
    arrays.push(array);
    const begin = end;
    end += array.byteLength;
    return begin;
  };
  for (const [name, input] of Object.entries(gradients)) {
    if (input instanceof Float32Array || 'data' in input) {
      const data = input instanceof Float32Array ? input : input.data;
      const dims = input instanceof Float32Array ? dimsOf(name) : input.dims;
      tensors.push({ name, dims, dtype: 'F32', begin: add(data), length: data.length });
      continue;
    }
    const { indices, values } = input;
    const count = indices.length;
    const dims = input.dims ?? withCount(dimsOf(name), count);
    checkRows(name, indices, values, dims);
    const begin = add(values);
    const rows = { begin: add(Int32Array.from(indices)), count, dtype: 'I32' } as const;
    tensors.push({ name, dims, dtype: 'F32', begin, length: values.length, rows });
  }
  const payload = new Uint8Array(end);
  let at = 0;
  for (const { buffer, byteOffset, byteLength } of arrays) {
    payload.set(new Uint8Array(buffer, byteOffset, byteLength), at);
    at += byteLength;
  }
  if (!sameTensors(tensors, lastLayout.tensors)) lastLayout = tensorLayout(tensors, end);
  return { layout: lastLayout, payload };
}

function withCount(dims: readonly number[] | null, count: number): readonly number[] | null {
  return dims && dims.length > 0 ? [count, ...dims.slice(1)] : null;
}

function checkRows(name: string, indices: SparseRows['indices'], values: Float32Array, dims: readonly number[] | null): void {
  const refuse = (part: string, expected: string, got: string): never => {
    throw new RxgradError('invalidOption', { option: `gradientBatch: gradients.${name}.${part}`, expected, got });
  };
  const count = indices.length;
  const wrong = indices.find((index) => index !== (index | 0) || index < 0);
  if (wrong !== undefined) refuse('indices', 'row numbers of 32 bits, from 0', String(wrong));
  const size = dims?.reduce((product, dim) => product * dim, 1) ?? values.length;
  if (dims && (dims[0] !== count || size !== values.length)) {
    refuse('dims', `${count} rows with ${values.length} values in all`, `[${dims}]`);
  }
  if (count === 0 ? values.length > 0 : values.length % count !== 0) {
    refuse('values', `rows of one length for ${count} row numbers`, `${values.length} values`);
  }
}

function sameTensors(a: readonly TensorSpec[], b: readonly TensorSpec[]): boolean {
  return (
    a.length === b.length &&
    a.every((tensor, i) => {
      const other = b[i]!;
      return (
        tensor.name === other.name &&
        tensor.length === other.length &&
        tensor.rows?.count === other.rows?.count &&
        String(tensor.dims) === String(other.dims)
      );
    })
  );
}
