import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import type { HeaderValue } from './record.ts';

/** The `ce_source` of records that belong to no worker. */
export const NO_WORKER = 'rxgrad';
/** So begin the workers that retried dead letters come from: each sends one record. */
export const RETRY = 'retry:';

/** A longer id is known by its hash. */
const MAX_ID_BYTES = 1024;
const HASHED = /^sha256:[0-9a-f]{64}$/;
// Of UTF-16: halves of surrogates alone, which no UTF-8 has. Python's `surrogateescape` uses them so, too.
const ESCAPE = 0xdc00;

/**
 * Reads a worker's id, two different ones never as the same text: bytes that are not UTF-8 stay, each as U+DC00 and the byte, and an
 * id of more than 1,024 bytes is read as `sha256:` and its digest. Undefined where the header names nobody.
 */
export function workerOf(id: HeaderValue | undefined): string | undefined {
  if (id === undefined || id.length === 0) return undefined;
  const text = typeof id === 'string' ? id : workerText(id);
  if (text === NO_WORKER) return undefined;
  // Somebody's name may look like the digest of another's.
  return HASHED.test(text) ? digestOf(workerBytes(text)) : boundedWorker(text);
}

/** An id of at most 1,024 bytes: the given one, or its digest. So is one with halves of surrogates that no bytes are read as. */
export function boundedWorker(worker: string): string {
  if (!worker.isWellFormed() && workerText(workerBytes(worker)) !== worker) return digestOf(Buffer.from(worker, 'utf16le'));
  // No UTF-16 unit has more than 3 bytes.
  return 3 * worker.length > MAX_ID_BYTES && workerBytes(worker).byteLength > MAX_ID_BYTES
    ? digestOf(workerBytes(worker))
    : worker;
}

function digestOf(id: Uint8Array): string {
  return `sha256:${createHash('sha256').update(id).digest('hex')}`;
}

/** The bytes that {@link workerOf} reads as this id. */
export function workerBytes(worker: string): Buffer {
  if (worker.isWellFormed()) return Buffer.from(worker);
  // Code points: a pair of surrogates is one.
  const parts = Array.from(worker, (character) => {
    const escaped = character.charCodeAt(0) - ESCAPE;
    return character.length === 1 && escaped >= 0x80 && escaped <= 0xff ? Buffer.of(escaped) : Buffer.from(character);
  });
  return Buffer.concat(parts);
}

/** The text of bytes, of any. */
export function workerText(bytes: Uint8Array): string {
  return isUtf8(bytes) ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString() : escaped(bytes);
}

function escaped(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.byteLength; ) {
    const length = [1, 2, 3, 4].find((count) => at + count <= bytes.byteLength && isUtf8(bytes.subarray(at, at + count)));
    text +=
      length === undefined ? String.fromCharCode(ESCAPE + bytes[at]!) : Buffer.from(bytes.subarray(at, at + length)).toString();
    at += length ?? 1;
  }
  return text;
}
