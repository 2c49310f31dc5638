import { type RejectionReason, RxgradError } from '../errors.ts';
import { type ElementType, elementBytes, type TensorLayout, type TensorSpec, tensorLayout } from '../payload.ts';
import { excerpt } from './excerpt.ts';

export const MAX_RANK = 16;

/** Types of a file's parts: elements, and the row numbers of tables. */
const partBytes = { ...elementBytes, I32: 4, I64: 8 } as const;
type PartType = keyof typeof partBytes;

/** Why a file cannot be read. Made into an error where the file's place is known. */
export type SafetensorsProblem = (where: string) => RxgradError<RejectionReason>;

/** A tensor of a file: a parameter's gradient, or a part of one. */
interface Part {
  readonly name: string;
  readonly dtype: PartType;
  readonly dims: readonly number[];
  readonly begin: number;
  readonly length: number;
}

interface HeaderEntry {
  dtype: unknown;
  shape: unknown;
  data_offsets: unknown;
}

/**
 * Reads a header's JSON as a layout. Parts that belong together become one tensor: `<name>.indices` (I32 or I64) with
 * `<name>.values`, and what is I8 with `<name>.scale` (F32). Other tensors that are merely called so stay what they are.
 */
export function parseHeader(text: string): TensorLayout | SafetensorsProblem {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch {
    return undecodable('a safetensors header in JSON', excerpt(text));
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) {
    return undecodable('a safetensors header as a JSON object', excerpt(text));
  }
  const parts: Part[] = [];
  for (const [name, entry] of Object.entries(header as Record<string, HeaderEntry>)) {
    if (name === '__metadata__') continue;
    const part = parseEntry(name, entry);
    if (typeof part === 'function') return part;
    parts.push(part);
  }
  parts.sort((a, b) => a.begin - b.begin || a.length - b.length);
  let end = 0;
  for (const { name, dtype, begin, length } of parts) {
    if (begin !== end) return undecodable(`tensor data without gaps or overlaps: "${name}" at byte ${end}`, `byte ${begin}`);
    end += partBytes[dtype] * length;
  }
  const tensors = joinParts(parts);
  return typeof tensors === 'function' ? tensors : tensorLayout(tensors, end);
}

function parseEntry(name: string, entry: HeaderEntry | null): Part | SafetensorsProblem {
  const { dtype, shape, data_offsets: offsets } = entry ?? {};
  if (typeof dtype !== 'string' || !Object.hasOwn(partBytes, dtype)) return wrongType(name, excerptOf(dtype));
  if (!Array.isArray(shape) || shape.length > MAX_RANK || !shape.every(isSize)) {
    return undecodable(`a shape of at most ${MAX_RANK} sizes for "${name}"`, excerptOf(shape));
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    return undecodable(`data_offsets [begin, end] for "${name}"`, excerptOf(offsets));
  }
  const [begin, end] = offsets as [number, number];
  const length = (shape as number[]).reduce((product, size) => product * size, 1);
  const byteLength = partBytes[dtype as PartType] * length;
  if (end - begin !== byteLength) return undecodable(`${byteLength} bytes for "${name}" [${shape}]`, `${end - begin}`);
  return { name, dtype: dtype as PartType, dims: shape as number[], begin, length };
}

function joinParts(parts: readonly Part[]): TensorSpec[] | SafetensorsProblem {
  const byName = new Map(parts.map((part) => [part.name, part]));
  const tensors = new Map<string, TensorSpec>();
  for (const part of parts) {
    if (isFactor(part, byName)) continue;
    if (isInteger(part)) {
      const values = byName.get(`${withoutEnding(part.name, '.indices')}.values`);
      if (!part.name.endsWith('.indices')) return wrongType(part.name, part.dtype);
      if (!values || isInteger(values)) return undecodable(`"${part.name}" beside values of the same name`, 'none');
      continue;
    }
    const tensor = tensorOf(part, byName);
    if (typeof tensor === 'function') return tensor;
    if (tensors.has(tensor.name)) return undecodable(`"${tensor.name}" once`, 'it dense and as rows');
    tensors.set(tensor.name, tensor);
  }
  return [...tensors.values()];
}

function tensorOf(part: Part, byName: ReadonlyMap<string, Part>): TensorSpec | SafetensorsProblem {
  const { dims, begin, length } = part;
  const indices = indicesOf(part, byName);
  const name = indices ? withoutEnding(part.name, '.values') : part.name;
  if (indices && (indices.dims.length !== 1 || dims[0] !== indices.length)) {
    return undecodable(`as many rows in "${part.name}" as in "${indices.name}"`, `[${dims}] and [${indices.dims}]`);
  }
  const dtype = part.dtype as ElementType;
  const rows = indices && { begin: indices.begin, count: indices.length, dtype: indices.dtype as 'I32' | 'I64' };
  const tensor = { name, dims, dtype, begin, length, ...(rows ? { rows } : {}) };
  if (dtype !== 'I8') return tensor;
  const scale = byName.get(`${name}.scale`);
  if (scale?.dtype !== 'F32') return undecodable(`"${name}.scale" in F32 beside "${part.name}" in I8`, scale?.dtype ?? 'none');
  if (scale.length !== 1 && scale.length !== dims[0]) {
    return undecodable(`one factor in "${scale.name}", or one for each row of [${dims}]`, `${scale.length}`);
  }
  return { ...tensor, scale: { begin: scale.begin, length: scale.length } };
}

/** The row numbers of a table's values, where it is that. */
function indicesOf({ name }: Part, byName: ReadonlyMap<string, Part>): Part | undefined {
  const indices = name.endsWith('.values') ? byName.get(`${withoutEnding(name, '.values')}.indices`) : undefined;
  return indices && isInteger(indices) ? indices : undefined;
}

/** Whether it is what the bytes of another tensor are multiplied by. */
function isFactor({ name, dtype }: Part, byName: ReadonlyMap<string, Part>): boolean {
  if (dtype !== 'F32' || !name.endsWith('.scale')) return false;
  const owner = withoutEnding(name, '.scale');
  const values = byName.get(`${owner}.values`);
  return byName.get(owner)?.dtype === 'I8' || (values?.dtype === 'I8' && indicesOf(values, byName) !== undefined);
}

function isInteger({ dtype }: Part): boolean {
  return dtype === 'I32' || dtype === 'I64';
}

function withoutEnding(name: string, ending: string): string {
  return name.endsWith(ending) ? name.slice(0, -ending.length) : name;
}

function isSize(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function wrongType(parameter: string, got: string): SafetensorsProblem {
  const expected = Object.keys(elementBytes).join(', ');
  return (where) => new RxgradError('wrongType', { where, parameter, expected, got });
}

/** Says what was expected of a file, and what it has. */
export function undecodable(expected: string, got: string): SafetensorsProblem {
  return (where) => new RxgradError('undecodable', { where, expected, got });
}

/** Says what a header holds in some place. Nested values stay unwritten: they could be too deep for `JSON.stringify`. */
function excerptOf(value: unknown): string {
  if (value === undefined) return 'none';
  const written = Array.isArray(value) ? value.slice(0, 2 * MAX_RANK).map(shallow) : shallow(value);
  return excerpt(typeof written === 'string' ? written : JSON.stringify(written));
}

function shallow(value: unknown): unknown {
  return typeof value === 'object' && value !== null ? '...' : value;
}
