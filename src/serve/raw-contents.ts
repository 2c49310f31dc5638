import { isUtf8 } from 'node:buffer';
import { RxgradError } from '../errors.ts';
import { bytesPerElement, type Datatype, type NumericData, numericView, type TensorData } from './datatypes.ts';
import type { InferTensor } from './infer-request.ts';

/**
 * Reads a tensor as the protocol writes it in binary: little-endian elements without gaps; of BYTES, each behind its length in
 * four bytes. The bytes are lent where they lie as elements have to, else copied.
 */
export function readRaw(name: string, datatype: Datatype, elements: number, bytes: Uint8Array): TensorData {
  if (datatype === 'BYTES') return readTexts(name, elements, bytes);
  const expected = elements * bytesPerElement(datatype);
  if (bytes.length !== expected) throw problemOf(name, `${expected} bytes (${elements} of ${datatype})`, `${bytes.length}`);
  if (datatype === 'BOOL' && bytes.some((byte) => byte > 1)) throw problemOf(name, 'BOOL as bytes of 0 and 1', 'another');
  if (bytes.byteOffset % bytesPerElement(datatype) === 0) return numericView(datatype, bytes.buffer, bytes.byteOffset, elements);
  return numericView(datatype, Uint8Array.prototype.slice.call(bytes).buffer, 0, elements);
}

/** Writes a tensor as {@link readRaw} reads it. Numbers are lent, not copied. */
export function writeRaw({ datatype, data }: Pick<InferTensor, 'datatype' | 'data'>): Uint8Array {
  if (datatype === 'BYTES') return writeTexts(data as readonly string[]);
  const { buffer, byteOffset, byteLength } = data as NumericData;
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** The text of bytes that have to be UTF-8, as onnxruntime's strings are. */
export function textOf(name: string, bytes: Uint8Array): string {
  if (!isUtf8(bytes)) throw problemOf(name, 'BYTES that are UTF-8', 'others');
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8');
}

function readTexts(name: string, elements: number, bytes: Uint8Array): string[] {
  // Four bytes of each are its length, so no count makes this allocate more than came.
  if (elements * 4 > bytes.length)
    throw problemOf(name, `${elements} elements of BYTES, each behind its length`, `${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const texts: string[] = [];
  let offset = 0;
  for (let i = 0; i < elements; i++) {
    const length = offset + 4 <= bytes.length ? view.getUint32(offset, true) : Number.POSITIVE_INFINITY;
    if (offset + 4 + length > bytes.length) throw problemOf(name, `${elements} elements of BYTES`, `an end after ${i}`);
    texts.push(textOf(name, bytes.subarray(offset + 4, offset + 4 + length)));
    offset += 4 + length;
  }
  if (offset !== bytes.length) throw problemOf(name, `${elements} elements of BYTES`, `${bytes.length - offset} bytes more`);
  return texts;
}

function writeTexts(texts: readonly string[]): Uint8Array {
  const lengths = texts.map((text) => Buffer.byteLength(text));
  const bytes = Buffer.allocUnsafe(lengths.reduce((sum, length) => sum + 4 + length, 0));
  let offset = 0;
  for (const [i, text] of texts.entries()) {
    offset = bytes.writeUInt32LE(lengths[i]!, offset);
    offset += bytes.write(text, offset);
  }
  return bytes;
}

function problemOf(name: string, expected: string, got: string): RxgradError {
  return new RxgradError('invalidRequest', { where: `tensor "${name}"`, expected, got });
}
