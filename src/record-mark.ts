import { crc32 } from 'node:zlib';
import type { LogRecord } from './record.ts';

/** What tells a record from any other at its offset: when it was appended, and the CRC-32 of its key, headers and value. */
export interface RecordMark {
  readonly offset: number;
  readonly timestampMs: number;
  readonly crc: number;
}

export function markOf({ offset, timestampMs, key, value, headers }: LogRecord): RecordMark {
  let crc = chained(0, key);
  // Transports may show headers in an order of their own, and their text as bytes.
  for (const name of Object.keys(headers).sort()) {
    const header = headers[name]!;
    crc = chained(chained(crc, Buffer.from(name)), typeof header === 'string' ? Buffer.from(header) : header);
  }
  return { offset, timestampMs, crc: chained(crc, value) };
}

export function sameMark(a: RecordMark, b: RecordMark): boolean {
  return a.offset === b.offset && a.timestampMs === b.timestampMs && a.crc === b.crc;
}

/** Each part with its length, so that nothing can move from one to the next. */
function chained(crc: number, bytes: Uint8Array | null): number {
  const framed = crc32(`${bytes?.byteLength ?? 'null'}/`, crc);
  return bytes ? crc32(bytes, framed) : framed;
}
