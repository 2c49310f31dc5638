import { createRequire } from 'node:module';
import { promisify } from 'node:util';
import { unzip } from 'node:zlib';
import kafkajs from 'kafkajs';

/** More than any event has. kafkajs copies all headers for each of them (2.2.4): 10,000 in one record take it 40 s. */
const mostHeaders = 100;

/** A batch of records that would take more memory than was allowed. Trying again would not help. */
export class OversizedBatch extends Error {
  override readonly name = 'OversizedBatch';
  /** As kafkajs asks. */
  readonly retriable = false;
}

interface Decoder {
  readVarIntArray(read: (decoder: Decoder) => unknown): unknown[];
}

const unzipped = promisify(unzip);
let mostBytes = 0;

/**
 * Keeps what a producer sends from costing more than its size: gzip grows to `bytes` at most (the largest of all calls), and a
 * record with more than 100 headers comes without any. kafkajs has no option for either, so this holds for the whole process.
 */
export function limitDecoding(bytes: number): void {
  if (mostBytes === 0) {
    limitGzip();
    limitHeaders();
  }
  mostBytes = Math.max(mostBytes, bytes);
}

function limitGzip(): void {
  const { GZIP } = kafkajs.CompressionTypes;
  const codec = kafkajs.CompressionCodecs[GZIP]();
  kafkajs.CompressionCodecs[GZIP] = () => ({ ...codec, decompress });
}

async function decompress(bytes: Buffer): Promise<Buffer> {
  try {
    return await unzipped(bytes, { maxOutputLength: mostBytes });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_BUFFER_TOO_LARGE') throw error;
    throw new OversizedBatch(`a compressed batch of ${bytes.length} bytes grows to more than ${mostBytes}`);
  }
}

function limitHeaders(): void {
  const { prototype }: { prototype: Decoder } = createRequire(import.meta.url)('kafkajs/src/protocol/decoder');
  const read = prototype.readVarIntArray;
  const count = Object.getOwnPropertyDescriptor(prototype, 'readVarInt')!.value as () => number;
  // Headers are the only array that is counted so, and the last part of a record: what is left unread is not missed.
  prototype.readVarIntArray = function (this: Decoder & { offset: number }, reader) {
    const start = this.offset;
    if (count.call(this) > mostHeaders) return [];
    this.offset = start;
    return read.call(this, reader);
  };
}
