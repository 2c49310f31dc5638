import type { Message } from 'kafkajs';
import type { NewRecord } from '../transport.ts';

// A topic's default max.message.bytes is 1,048,588, and it limits the batch of records that kafkajs makes of each send.
export const batchBytes = 900_000;
const recordOverheadBytes = 40;

export interface SizedMessage {
  readonly message: Message;
  readonly partition: number;
  readonly bytes: number;
}

/** A record as kafkajs takes it, and about how large it is on the wire. */
export function sizedMessage({ key = null, value, headers, partition = 0 }: NewRecord): SizedMessage {
  const message: Message = { key: bufferOf(key), value: bufferOf(value), partition, headers: {} };
  let bytes = recordOverheadBytes + (key?.length ?? 0) + (value?.length ?? 0);
  for (const name in headers) {
    const header = headers[name]!;
    message.headers![name] = typeof header === 'string' ? header : bufferOf(header)!;
    bytes += name.length + header.length;
  }
  return { message, partition, bytes };
}

/** A view: kafkajs takes Buffers only. */
function bufferOf(bytes: string | Uint8Array | null): Buffer | null {
  if (bytes === null) return null;
  return typeof bytes === 'string' ? Buffer.from(bytes) : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
