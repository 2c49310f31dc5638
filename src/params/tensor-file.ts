import { readFileSync } from 'node:fs';
import { RxgradError } from '../errors.ts';
import { bfloatOf, halfOf } from '../narrow-floats.ts';

/** A tensor of a file, converted to the numbers of JavaScript. */
export interface FileTensor {
  readonly dims: readonly number[];
  readonly data: Float32Array;
}

/** Numbers that are no parameter's: as they are, in a type that every safetensors library reads. */
export type FileArray = BigInt64Array | Int32Array | Int16Array | Uint8Array;

/** A safetensors file: its tensors by name, and what its `__metadata__` says. */
export interface TensorFile {
  readonly tensors: ReadonlyMap<string, FileTensor>;
  /** Those whose names begin with `rxgrad.`, by what follows. */
  readonly arrays: Readonly<Record<string, FileArray>>;
  /** Tensors of types that are not read, and these. */
  readonly unread: ReadonlyMap<string, string>;
  readonly metadata: Readonly<Record<string, string>>;
}

// As the safetensors library limits it.
const MAX_HEADER_BYTES = 100_000_000;
const MAX_RANK = 64;

/** How elements are read, by dtype: their bytes, and one of them. */
const elementTypes: Readonly<Record<string, { readonly bytes: number; read(view: DataView, at: number): number }>> = {
  F64: { bytes: 8, read: (view, at) => view.getFloat64(at, true) },
  F32: { bytes: 4, read: (view, at) => view.getFloat32(at, true) },
  F16: { bytes: 2, read: (view, at) => halfOf(view.getUint16(at, true)) },
  BF16: { bytes: 2, read: (view, at) => bfloatOf(view.getUint16(at, true)) },
  I64: { bytes: 8, read: (view, at) => Number(view.getBigInt64(at, true)) },
  I32: { bytes: 4, read: (view, at) => view.getInt32(at, true) },
};

/** How names of arrays begin: no parameter's does. */
export const RESERVED = 'rxgrad.';
const arrayTypes = { I64: BigInt64Array, I32: Int32Array, I16: Int16Array, U8: Uint8Array } as const;

type Fail = (expected: string, got: string) => never;

/** A tensor's place in its file. */
interface Placed {
  readonly shape: readonly number[];
  /** Bytes of the file. */
  readonly from: number;
  readonly to: number;
}

/** Reads a safetensors file, its bytes or a path, into float32, whatever its types. Nothing is allocated that it does not hold. */
export function readTensorFile(source: Uint8Array | string): TensorFile {
  const where = typeof source === 'string' ? source : 'state dict';
  const fail: Fail = (expected, got) => {
    throw new RxgradError('invalidCheckpoint', { where, expected, got });
  };
  const file = typeof source === 'string' ? readPath(source) : source;
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const { begin, metadata, entries } = readTensorFileHeader(file, fail);
  const tensors = new Map<string, FileTensor>();
  const unread = new Map<string, string>();
  for (const [name, entry] of Object.entries(entries)) {
    if (name.startsWith(RESERVED)) continue;
    const dtype = String((entry as { dtype?: unknown } | null)?.dtype);
    const type = elementTypes[dtype];
    if (!type) {
      unread.set(name, dtype);
      continue;
    }
    const { shape, from, to } = placed(name, entry, type.bytes, begin, file, fail);
    const data = new Float32Array((to - from) / type.bytes);
    if (dtype === 'F32') new Uint8Array(data.buffer).set(file.subarray(from, to));
    else for (let i = 0; i < data.length; i++) data[i] = type.read(view, from + type.bytes * i);
    tensors.set(name, { dims: shape, data });
  }
  return { tensors, arrays: readArrays(file, begin, entries, fail), unread, metadata };
}

/** The arrays of a file whose header was read: copies. */
export function readArrays(
  file: Uint8Array,
  begin: number,
  entries: Readonly<Record<string, unknown>>,
  fail: Fail,
): Record<string, FileArray> {
  const arrays: Record<string, FileArray> = {};
  for (const [name, entry] of Object.entries(entries)) {
    if (!name.startsWith(RESERVED)) continue;
    const dtype = String((entry as { dtype?: unknown } | null)?.dtype);
    if (!Object.hasOwn(arrayTypes, dtype)) return fail(`"${name}" as one of ${Object.keys(arrayTypes)}`, dtype);
    const type = arrayTypes[dtype as keyof typeof arrayTypes];
    const { from, to } = placed(name, entry, type.BYTES_PER_ELEMENT, begin, file, fail);
    arrays[name.slice(RESERVED.length)] = new type(Uint8Array.from(file.subarray(from, to)).buffer);
  }
  return arrays;
}

/** Where the bytes of a tensor lie in its file. */
function placed(name: string, entry: unknown, bytes: number, begin: number, file: Uint8Array, fail: Fail): Placed {
  const { shape, data_offsets: offsets } = (entry ?? {}) as { shape?: unknown; data_offsets?: unknown };
  if (!isSizes(shape) || shape.length > MAX_RANK) return fail(`a shape for "${name}"`, String(shape));
  const byteLength = bytes * shape.reduce((product, size) => product * size, 1);
  const [from = 0, to = 0] = isSizes(offsets) ? offsets : [];
  if (!isSizes(offsets) || offsets.length !== 2 || to - from !== byteLength || begin + to > file.byteLength) {
    return fail(`${byteLength} bytes of the file for "${name}" [${shape}]`, `data_offsets ${String(offsets)}`);
  }
  return { shape, from: begin + from, to: begin + to };
}

/** Reads what stands before the tensors of a file: of its begin, all or more. */
export function readTensorFileHeader(
  file: Uint8Array,
  fail: Fail,
): { begin: number; metadata: Readonly<Record<string, string>>; entries: Readonly<Record<string, unknown>> } {
  if (file.byteLength < 8) fail('a safetensors file', `${file.byteLength} bytes`);
  const headerBytes = Number(new DataView(file.buffer, file.byteOffset, 8).getBigUint64(0, true));
  if (headerBytes > MAX_HEADER_BYTES) fail(`a safetensors header of at most ${MAX_HEADER_BYTES} bytes`, `${headerBytes}`);
  if (8 + headerBytes > file.byteLength)
    fail(`a header of ${headerBytes} bytes`, `${file.byteLength - 8} bytes behind its length`);
  const entries = parsed(file.subarray(8, 8 + headerBytes), fail);
  const { __metadata__: metadata = {} } = entries;
  // Not a copy without it: there may be a million.
  delete entries.__metadata__;
  return { begin: 8 + headerBytes, metadata: metadata as Readonly<Record<string, string>>, entries };
}

/** A file that is still to be put together. */
export interface TensorFilePlan {
  /** Its bytes up to the first tensor. */
  readonly header: Buffer;
  /** Views of the tensors, and where in the file each begins. */
  readonly parts: readonly { readonly at: number; readonly data: Float32Array | FileArray }[];
  readonly byteLength: number;
}

/** Plans a file of float32 tensors and of arrays that any safetensors library reads. Nothing is copied yet. */
export function planTensorFile(
  tensors: Iterable<readonly [string, FileTensor]>,
  metadata: Readonly<Record<string, string>>,
  arrays: Readonly<Record<string, FileArray>> = {},
): TensorFilePlan {
  const all: (readonly [string, { readonly dims: readonly number[]; readonly data: Float32Array | FileArray }])[] = [
    ...tensors,
    ...Object.entries(arrays).map(([name, data]) => [RESERVED + name, { dims: [data.length], data }] as const),
  ];
  let end = 0;
  const entries = all.map(([name, { dims, data }]) => {
    const begin = end;
    end += data.byteLength;
    return [name, { dtype: dtypeOf(data), shape: dims, data_offsets: [begin, end] }] as const;
  });
  const header = tensorFileHeader(metadata, entries);
  let at = header.byteLength;
  const parts = all.map(([, { data }]) => {
    const part = { at, data };
    at += data.byteLength;
    return part;
  });
  return { header, parts, byteLength: at };
}

/** Puts a planned file together. */
export function writeTensorFile({ header, parts, byteLength }: TensorFilePlan): Uint8Array {
  const file = Buffer.alloc(byteLength);
  header.copy(file);
  for (const { at, data } of parts) file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
  return file;
}

/**
 * The length of a header, and the header, with spaces up to a multiple of 8: so the data is aligned in files that are mapped. One
 * that would not be read is not written.
 */
export function tensorFileHeader(
  metadata: Readonly<Record<string, unknown>>,
  entries: Iterable<readonly [string, unknown]>,
  mostBytes = MAX_HEADER_BYTES,
): Buffer {
  const fields = [['__metadata__', metadata] as const, ...entries].map(
    ([name, entry]) => `${JSON.stringify(name)}:${JSON.stringify(entry)}`,
  );
  const json = Buffer.from(`{${fields.join(',')}}`);
  const headerBytes = Math.ceil(json.byteLength / 8) * 8;
  if (headerBytes > mostBytes) {
    const expected = `a header of at most ${mostBytes} bytes, which is all that would be read`;
    throw new RxgradError('invalidCheckpoint', { where: 'a file that is being written', expected, got: `${headerBytes}` });
  }
  const header = Buffer.alloc(8 + headerBytes, ' ');
  header.writeBigUInt64LE(BigInt(headerBytes), 0);
  json.copy(header, 8);
  return header;
}

function dtypeOf(data: Float32Array | FileArray): string {
  const found = Object.entries(arrayTypes).find(([, type]) => data instanceof type);
  return found?.[0] ?? 'F32';
}

function readPath(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (cause) {
    const got = (cause as Error).message;
    throw new RxgradError('invalidCheckpoint', { where: path, expected: 'a file that can be read', got }, { cause });
  }
}

function parsed(header: Uint8Array, fail: Fail): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(header));
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  return fail('a safetensors header: a JSON object', 'something else');
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && (size as number) >= 0);
}
