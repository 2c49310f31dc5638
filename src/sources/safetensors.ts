import { RxgradError } from '../errors.ts';
import { elementBytes, type TensorLayout, widthOf } from '../payload.ts';
import { MAX_RANK, parseHeader, type SafetensorsProblem, undecodable } from './safetensors-header.ts';

/** Bytes that a header may have: room for about 20,000 tensors. */
const MAX_HEADER_BYTES = 4 << 20;
const KNOWN_LAYOUTS = 64;
/** Of all headers that are known: one of the largest fits, or many of the usual. */
const KNOWN_CHARACTERS = MAX_HEADER_BYTES;

/** A file that was read: what is in it, and its data. */
export interface Safetensors {
  readonly layout: TensorLayout;
  readonly payload: Uint8Array;
}

/**
 * Reads safetensors files. A header is parsed once and known again by its bytes, since a stream repeats
 * few of them; equal headers give the same layout object.
 *
 * Format: an unsigned 64-bit little-endian length, that many bytes of JSON, then the data without gaps.
 */
export class SafetensorsReader {
  #lastHeader: Buffer = Buffer.alloc(0);
  #lastLayout: TensorLayout | null = null;
  readonly #layouts = new Map<string, TensorLayout>();
  #knownCharacters = 0;

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
      this.#remember(text, layout);
    }
    // A copy: the message around the header is large and would be kept alive.
    this.#lastHeader = Buffer.from(header);
    this.#lastLayout = layout;
    return layout;
  }

  #remember(text: string, layout: TensorLayout): void {
    if (this.#layouts.size === KNOWN_LAYOUTS || this.#knownCharacters + text.length > KNOWN_CHARACTERS) {
      this.#layouts.clear();
      this.#knownCharacters = 0;
    }
    this.#layouts.set(text, layout);
    this.#knownCharacters += text.length;
  }
}

/** Writes a payload as a file that any safetensors library reads: its bytes as they are, behind a header. */
export function writeSafetensors(layout: TensorLayout, payload: Uint8Array): Buffer {
  const json = JSON.stringify(headerOf(layout));
  // Spaces up to a multiple of 8, so that the data is aligned in files that are mapped.
  const header = Buffer.from(json.padEnd(json.length + ((8 - (Buffer.byteLength(json) % 8)) % 8)));
  if (header.byteLength > MAX_HEADER_BYTES) {
    throw notRead('gradients', `a header of at most ${MAX_HEADER_BYTES} bytes`, `${header.byteLength}: send them in parts`);
  }
  const length = Buffer.alloc(8);
  length.writeUInt32LE(header.byteLength, 0);
  return Buffer.concat([length, header, payload]);
}

function headerOf({ tensors }: TensorLayout): Record<string, object> {
  const entries: [string, object][] = [];
  const add = (name: string, dtype: string, shape: readonly number[], begin: number, byteLength: number): void => {
    entries.push([name, { dtype, shape, data_offsets: [begin, begin + byteLength] }]);
  };
  for (const tensor of tensors) {
    const { name, dims, dtype, begin, length, rows, scale } = tensor;
    const shape = dims ?? (rows ? [rows.count, widthOf(tensor)] : [length]);
    if (shape.length > MAX_RANK) throw notRead(name, `at most ${MAX_RANK} dimensions`, `${shape.length}`);
    add(rows ? `${name}.values` : name, dtype, shape, begin, elementBytes[dtype] * length);
    if (rows) add(`${name}.indices`, rows.dtype, [rows.count], rows.begin, (rows.dtype === 'I64' ? 8 : 4) * rows.count);
    if (scale) add(`${name}.scale`, 'F32', [scale.length], scale.begin, 4 * scale.length);
  }
  const header = Object.fromEntries(entries);
  const taken = entries.find(([name, entry]) => header[name] !== entry)?.[0];
  if (taken === undefined) return header;
  const got = 'it twice: rename the parameter, or send it in another dtype';
  throw notRead(taken, 'a name for each tensor and each part of one', got);
}

/** Of what would be rejected where it arrives. */
function notRead(what: string, expected: string, got: string): RxgradError {
  return new RxgradError('invalidOption', { option: `safetensors "${what}"`, expected, got });
}
