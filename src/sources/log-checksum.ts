import { randomUUID } from 'node:crypto';
import { crc32 } from 'node:zlib';

// The lengths keep a byte from moving between key, value and headers unseen.
const prefix = Buffer.alloc(28);

/** The identity of something that can be made anew under the same name. */
export function newIdentity(): string {
  return randomUUID();
}

/** CRC-32 of a row of the small tables. */
export function rowChecksum(...values: readonly (string | number)[]): number {
  return crc32(JSON.stringify(values));
}

/** CRC-32 of a record in its place: `seed` is the checksum of what tells its partition from every other one. */
export function recordChecksum(
  seed: number,
  offset: number,
  timestampMs: number,
  key: Uint8Array | null,
  value: Uint8Array | null,
  headers: string | null,
): number {
  prefix.writeDoubleLE(offset, 0);
  prefix.writeDoubleLE(timestampMs, 8);
  prefix.writeInt32LE(key?.length ?? -1, 16);
  prefix.writeInt32LE(value?.length ?? -1, 20);
  prefix.writeInt32LE(headers?.length ?? -1, 24);
  let sum = crc32(prefix, seed);
  if (key) sum = crc32(key, sum);
  if (value) sum = crc32(value, sum);
  return headers === null ? sum : crc32(headers, sum);
}
