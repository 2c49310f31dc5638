import { type RejectionReason, RxgradError } from '../errors.ts';
import { type TensorLayout, type TensorSpec, tensorLayout } from '../payload.ts';

/** Bytes that a header may have: room for about 20,000 tensors. */
const MAX_HEADER_BYTES = 4 << 20;
const MAX_RANK = 16;
const KNOWN_LAYOUTS = 64;

export type SafetensorsProblem = (where: string) => RxgradError<RejectionReason>;

/** A file that was read: what is in it, and its data. */
export interface Safetensors {
  readonly layout: TensorLayout;
  readonly payload: Uint8Array;
}

/**
 * Reads safetensors files (float32 tensors). A header is parsed once and known again by its bytes, since a stream repeats
 * few of them; equal headers give the same layout object.
 *
 * Format: an unsigned 64-bit little-endian length, that many bytes of JSON, then the data without gaps.
 */
export class SafetensorsReader {
  #lastHeader: Buffer = Buffer.alloc(0);
  #lastLayout: TensorLayout | null = null;
  readonly #layouts = new Map<string, TensorLayout>();

  read(bytes: Uint8Array): Safetensors | SafetensorsProblem {
    const file = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (file.byteLength < 8) return undecodable('a safetensors file', `${file.byteLength} bytes`);
    const headerBytes = file.readUInt32LE(0);
    if (file.readUInt32LE(4) !== 0 || headerBytes > MAX_HEADER_BYTES) {
      return undecodable(`a safetensors header of at most ${MAX_HEADER_BYTES} bytes`, 'a longer one, or another format');
    }
    if (8 + headerBytes > file.byteLength) {
      return undecodable(`a safetensors header of ${headerBytes} bytes`, `${file.byteLength - 8} bytes behind its length`);
    }
    const layout = this.#layoutOf(file.subarray(8, 8 + headerBytes));
    if (typeof layout === 'function') return layout;
    const payload = file.subarray(8 + headerBytes);
    if (payload.byteLength !== layout.byteLength) {
      return undecodable(`${layout.byteLength} bytes of tensor data`, `${payload.byteLength}`);
    }
    return { layout, payload };
  }

  #layoutOf(header: Buffer): TensorLayout | SafetensorsProblem {
    if (this.#lastLayout && this.#lastHeader.equals(header)) return this.#lastLayout;
    const text = header.toString('utf8');
    let layout: TensorLayout | SafetensorsProblem | undefined = this.#layouts.get(text);
    if (!layout) {
      layout = parseHeader(text);
      if (typeof layout === 'function') return layout;
      if (this.#layouts.size === KNOWN_LAYOUTS) this.#layouts.clear();
      this.#layouts.set(text, layout);
    }
    // A copy: the message around the header is large and would be kept alive.
    this.#lastHeader = Buffer.from(header);
    this.#lastLayout = layout;
    return layout;
  }
}

/** Writes tensors that lie one after the other in `payload`, as a file that any safetensors library reads. */
export function writeSafetensors(layout: TensorLayout, payload: Uint8Array): Buffer {
  const entries = layout.tensors.map(({ name, dims, dtype, begin, length }) => [
    name,
    { dtype, shape: dims ?? [length], data_offsets: [begin, begin + 4 * length] },
  ]);
  const json = JSON.stringify(Object.fromEntries(entries));
  // Spaces up to a multiple of 8, so that the data is aligned in files that are mapped.
  const header = Buffer.from(json.padEnd(json.length + ((8 - (Buffer.byteLength(json) % 8)) % 8)));
  const length = Buffer.alloc(8);
  length.writeUInt32LE(header.byteLength, 0);
  return Buffer.concat([length, header, payload]);
}

interface HeaderEntry {
  dtype: unknown;
  shape: unknown;
  data_offsets: unknown;
}

function parseHeader(text: string): TensorLayout | SafetensorsProblem {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch {
    return undecodable('a safetensors header in JSON', excerpt(text));
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) {
    return undecodable('a safetensors header as a JSON object', excerpt(text));
  }
  const tensors: TensorSpec[] = [];
  for (const [name, entry] of Object.entries(header as Record<string, HeaderEntry>)) {
    if (name === '__metadata__') continue;
    const tensor = parseEntry(name, entry);
    if (typeof tensor === 'function') return tensor;
    tensors.push(tensor);
  }
  tensors.sort((a, b) => a.begin - b.begin || a.length - b.length);
  let end = 0;
  for (const { name, begin, length } of tensors) {
    if (begin !== end) return undecodable(`tensor data without gaps or overlaps: "${name}" at byte ${end}`, `byte ${begin}`);
    end += 4 * length;
  }
  return tensorLayout(tensors, end);
}

function parseEntry(name: string, entry: HeaderEntry | null): TensorSpec | SafetensorsProblem {
  const { dtype, shape, data_offsets: offsets } = entry ?? {};
  if (dtype !== 'F32') {
    return (where) => new RxgradError('wrongType', { where, parameter: name, expected: 'F32', got: excerptOf(dtype) });
  }
  if (!Array.isArray(shape) || shape.length > MAX_RANK || !shape.every(isSize)) {
    return undecodable(`a shape of at most ${MAX_RANK} sizes for "${name}"`, excerptOf(shape));
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    return undecodable(`data_offsets [begin, end] for "${name}"`, excerptOf(offsets));
  }
  const [begin, end] = offsets as [number, number];
  const length = (shape as number[]).reduce((product, size) => product * size, 1);
  if (end - begin !== 4 * length) {
    return undecodable(`${4 * length} bytes for "${name}" [${shape}]`, `${end - begin}`);
  }
  return { name, dims: shape as number[], dtype, begin, length };
}

function isSize(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
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

function undecodable(expected: string, got: string): SafetensorsProblem {
  return (where) => new RxgradError('undecodable', { where, expected, got });
}

/** The beginning of something that came from outside, with what could garble a terminal or a log taken out. */
export function excerpt(text: string): string {
  const clean = text.slice(0, 60).replace(/[^\x20-\x7e]/g, '?');
  return text.length > 60 ? `"${clean}…"` : `"${clean}"`;
}
