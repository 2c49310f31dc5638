import { constants, type ServerHttp2Stream } from 'node:http2';
import { createGunzip, createInflate } from 'node:zlib';
import {
  type Metadata,
  ResponderBuilder,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  ServerListenerBuilder,
  status,
} from '@grpc/grpc-js';
import { RxgradError } from '../../errors.ts';
import type { BytesInFlight, Lease } from '../bytes-in-flight.ts';
import { statusOf } from './status.ts';

/** What a call takes before it has sent anything, about. */
const CALL_BYTES = 8 * 1024;
/** What a frame takes beside its bytes. */
const FRAME_BYTES = 256;

/** What grpc-js has no public name for: where the bytes of a call come from, and where they are decompressed. */
interface Internals {
  readonly stream: ServerHttp2Stream;
  decompressMessage(message: Buffer, encoding: string): Buffer | Promise<Buffer>;
}

const counted = new WeakMap<Metadata, CountedCall>();

/** Counts the bytes of calls as they come, and ends those that take longer than `requestMs` to send a message. */
export function countCalls(inFlight: BytesInFlight, maxBytes: number, requestMs: number): ServerInterceptor {
  return (method, call) => {
    const counting = new CountedCall(call, inFlight, maxBytes, requestMs);
    const listener = new ServerListenerBuilder()
      .withOnReceiveMetadata((metadata, next) => {
        counted.set(metadata, counting);
        next(metadata);
      })
      .withOnReceiveMessage((message, next) => {
        counting.received();
        next(message);
      })
      .build();
    // Who has to say something first is not kept waiting for it; on a stream, who says nothing takes no room.
    if (!method.requestStream) counting.await();
    return new ServerInterceptingCall(call, new ResponderBuilder().withStart((next) => next(listener)).build());
  };
}

/** Counts what a message has become, in addition to its bytes. Throws where there is no room. */
export function countDecoded(metadata: Metadata, bytes: number): void {
  counted.get(metadata)?.decoded(bytes);
}

/** The oldest message of a call was answered: it is counted no more. */
export function countAnswered(metadata: Metadata): void {
  counted.get(metadata)?.answered();
}

class CountedCall {
  readonly #call: ServerInterceptingCallInterface;
  readonly #stream: ServerHttp2Stream;
  readonly #lease: Lease;
  readonly #maxBytes: number;
  readonly #requestMs: number;
  /** Bytes of the message that is coming, and of those that are there and not answered yet, the oldest first. */
  #coming = 0;
  readonly #waiting: number[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(call: ServerInterceptingCallInterface, inFlight: BytesInFlight, maxBytes: number, requestMs: number) {
    const internals = internalsOf(call);
    this.#call = call;
    this.#stream = internals.stream;
    this.#maxBytes = maxBytes;
    this.#requestMs = requestMs;
    this.#lease = inFlight.open((error) => this.#end(statusOf(error)));
    this.#stream.once('close', () => {
      clearTimeout(this.#timer);
      this.#lease.close();
    });
    if (!this.#lease.take(CALL_BYTES)) return;
    this.#stream.on('data', (frame: Buffer) => {
      this.await();
      this.#count(frame.length + FRAME_BYTES);
    });
    const decompress = internals.decompressMessage.bind(internals);
    internals.decompressMessage = (message, encoding) =>
      encoding === 'gzip' || encoding === 'deflate'
        ? this.#decompressed(message.subarray(5), encoding)
        : decompress(message, encoding);
  }

  /** A message is to be there as a whole in time. */
  await(): void {
    if (!this.#lease.isOpen) return;
    this.#lease.arriving();
    this.#timer ??= setTimeout(() => {
      const error = new RxgradError('requestTimeout', { requestMs: this.#requestMs });
      this.#lease.close();
      this.#end(statusOf(error));
    }, this.#requestMs);
  }

  received(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#waiting.push(this.#coming);
    this.#coming = 0;
    this.#lease.arrived();
  }

  decoded(bytes: number): void {
    this.#lease.decoded(bytes);
    this.#waiting[0] = (this.#waiting[0] ?? 0) + bytes;
  }

  answered(): void {
    this.#lease.take(-(this.#waiting.shift() ?? 0));
  }

  #count(bytes: number): boolean {
    if (!this.#lease.take(bytes)) return false;
    this.#coming += bytes;
    return true;
  }

  /** As grpc-js does it, but counted as it grows. */
  #decompressed(message: Buffer, encoding: 'gzip' | 'deflate'): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const parts: Buffer[] = [];
      let length = 0;
      const decompressor = encoding === 'gzip' ? createGunzip() : createInflate();
      const fail = (code: status, details: string): void => {
        decompressor.destroy();
        reject({ code, details });
      };
      decompressor
        .on('data', (part: Buffer) => {
          parts.push(part);
          length += part.length;
          if (length > this.#maxBytes) {
            fail(status.RESOURCE_EXHAUSTED, `Received message that decompresses to a size larger than ${this.#maxBytes}`);
          } else if (!this.#count(part.length)) fail(status.CANCELLED, 'it was refused');
        })
        .on('end', () => resolve(Buffer.concat(parts)))
        .on('error', () => fail(status.INVALID_ARGUMENT, `Expected a message in ${encoding}, got other bytes`))
        .end(message);
    });
  }

  #end({ code, details, metadata }: ReturnType<typeof statusOf>): void {
    this.#call.sendStatus({ code, details, metadata });
    // What is still coming is not read, and what has come is let go of.
    this.#stream.close(constants.NGHTTP2_NO_ERROR);
  }
}

function internalsOf(call: ServerInterceptingCallInterface): Internals {
  const { stream, decompressMessage } = call as unknown as Partial<Internals>;
  if (stream && typeof decompressMessage === 'function') return call as unknown as Internals;
  throw new TypeError('this version of @grpc/grpc-js does not let the bytes of calls be counted');
}
