import type { Readable } from 'node:stream';
import { createGunzip, createInflate } from 'node:zlib';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { RxgradError } from '../../errors.ts';
import type { BytesInFlight, Lease } from '../bytes-in-flight.ts';
import { shownText } from '../shown-text.ts';

const decompressions = { gzip: createGunzip, deflate: createInflate } as const;
// What zlib keeps while it decompresses one body.
const DECOMPRESSOR_BYTES = 64 * 1024;
const SMALLEST_ROOM = 16 * 1024;
const none = Buffer.alloc(0);

const leases = new WeakMap<FastifyRequest, Lease>();

/**
 * Hands bodies on as the bytes that they are, decompressed; routes read them. A body may have `maxBytes`, as it comes and
 * decompressed, and is counted in `inFlight` from its first byte until the answer is sent, or the connection has ended.
 */
export function readBodies(app: FastifyInstance, maxBytes: number, inFlight: BytesInFlight): void {
  app.removeAllContentTypeParsers();
  app.addHook('onRequest', (request, reply, done) => {
    if (request.method === 'POST') {
      // Clients of Triton name no type.
      request.headers['content-type'] ??= 'application/octet-stream';
      reply.raw.once('close', () => leases.get(request)?.close());
    }
    done();
  });
  app.addContentTypeParser(['application/json', 'application/octet-stream'], (request, payload, done) => {
    try {
      new BodyReader(request, payload, maxBytes, inFlight, done).start();
    } catch (error) {
      done(error as Error);
    }
  });
}

/** What a request without a body has as its body. */
export function bodyOf(body: unknown): Buffer {
  return Buffer.isBuffer(body) ? body : none;
}

/** Counts what a body has become, in addition to it or, where nothing of it is needed any more, in its place. Throws where there is no room. */
export function countDecoded(request: FastifyRequest, bytes: number, isBodyNeeded: boolean): void {
  const lease = leases.get(request);
  if (!lease) return;
  if (!isBodyNeeded) {
    request.body = undefined;
    lease.take(-lease.bytes);
  }
  lease.decoded(bytes);
}

/** Collects one body. Its room grows with what came, and is what is counted: chunks of a byte would cost a hundred times as much. */
class BodyReader {
  readonly #request: FastifyRequest;
  readonly #raw: Readable;
  readonly #maxBytes: number;
  readonly #lease: Lease;
  readonly #done: (error: Error | null, body?: Buffer) => void;
  /** Of the body, where it is known before. */
  readonly #declared: number | null;
  #decompressor: (Readable & NodeJS.WritableStream) | null = null;
  #room = none;
  #length = 0;
  #received = 0;
  #isOver = false;

  constructor(
    request: FastifyRequest,
    raw: Readable,
    maxBytes: number,
    inFlight: BytesInFlight,
    done: (error: Error | null, body?: Buffer) => void,
  ) {
    this.#request = request;
    this.#raw = raw;
    this.#maxBytes = maxBytes;
    this.#done = done;
    const length = request.headers['content-length'];
    this.#declared = length === undefined ? null : Number(length);
    this.#lease = inFlight.open((error) => this.#end(error));
    leases.set(request, this.#lease);
  }

  start(): void {
    const encoding = this.#request.headers['content-encoding'];
    if (this.#declared !== null && this.#declared > this.#maxBytes) {
      this.#end(this.#tooLarge(`${this.#declared}`));
      return;
    }
    const raw = this.#raw.on('data', this.#onRaw).on('error', this.#onRawError).on('aborted', this.#onAborted);
    if (encoding === undefined || encoding === 'identity') {
      raw.on('data', this.#onBytes).on('end', this.#onEnd);
      return;
    }
    if (!Object.hasOwn(decompressions, encoding)) {
      const got = shownText(encoding);
      this.#end(new RxgradError('unsupportedContent', { where: 'Content-Encoding', expected: 'gzip or deflate', got }));
      return;
    }
    if (!this.#lease.take(DECOMPRESSOR_BYTES)) return;
    const problem = { where: 'body', expected: encoding, got: 'other bytes' };
    this.#decompressor = decompressions[encoding as keyof typeof decompressions]()
      .on('data', this.#onBytes)
      .on('end', this.#onEnd)
      .on('error', () => this.#end(new RxgradError('invalidRequest', problem)));
    raw.pipe(this.#decompressor);
  }

  readonly #onRaw = (chunk: Buffer): void => {
    this.#received += chunk.length;
    if (this.#received > this.#maxBytes) this.#end(this.#tooLarge('more'));
  };

  readonly #onBytes = (chunk: Buffer): void => {
    if (this.#isOver) return;
    const length = this.#length + chunk.length;
    if (length > this.#maxBytes) {
      this.#end(this.#tooLarge(this.#decompressor ? `more, behind ${this.#request.headers['content-encoding']}` : 'more'));
      return;
    }
    if (length > this.#room.length && !this.#grow(length)) return;
    chunk.copy(this.#room, this.#length);
    this.#length = length;
  };

  /** Doubles the room, up to what the body can have. */
  #grow(needed: number): boolean {
    const most = this.#decompressor || this.#declared === null ? this.#maxBytes : this.#declared;
    const size = Math.min(most, Math.max(needed, 2 * this.#room.length, SMALLEST_ROOM));
    if (!this.#lease.take(size - this.#room.length)) return false;
    const room = Buffer.allocUnsafeSlow(size);
    this.#room.copy(room, 0, 0, this.#length);
    this.#room = room;
    return true;
  }

  readonly #onEnd = (): void => this.#end(null);
  readonly #onRawError = (error: Error): void => this.#end(error);
  readonly #onAborted = (): void => this.#end(new Error('the client hung up'));

  #end(error: Error | null): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#raw.off('data', this.#onRaw).off('data', this.#onBytes).off('end', this.#onEnd).off('aborted', this.#onAborted);
    this.#decompressor?.destroy();
    const body = this.#room.subarray(0, this.#length);
    this.#room = none;
    if (error) {
      this.#lease.close();
      this.#raw.unpipe().pause();
      this.#done(error);
    } else {
      this.#lease.arrived();
      if (this.#decompressor) this.#lease.take(-DECOMPRESSOR_BYTES);
      this.#done(null, body);
    }
  }

  #tooLarge(got: string): RxgradError {
    return new RxgradError('requestTooLarge', { where: 'body', expected: `${this.#maxBytes} bytes`, got });
  }
}
