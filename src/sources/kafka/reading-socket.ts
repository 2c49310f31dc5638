import net from 'node:net';
import tls from 'node:tls';
import type { ISocketFactory } from 'kafkajs';

const keepAliveDelayMs = 60_000;
const landingBytes = 64 * 1024;
const mostReusedBytes = 96 * 2 ** 20;
const lengthBytes = 4;

/** What arrives is not what a broker sends to a client that speaks as this one does. */
export class UnexpectedBytes extends Error {
  readonly code: 'EXPECTED_TLS' | 'NO_BROKER' | 'LARGE_ANSWER';

  constructor(code: UnexpectedBytes['code'], message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * Makes sockets for kafkajs that read a large response straight into one buffer (net's `onread`), where kafkajs otherwise
 * gathers it from chunks of 64 KB, and none of more than `mostBytes`.
 *
 * The buffer is used again for the next large response of the connection: kafkajs 2.2.4 copies what it gets before the
 * `data` event returns (`Buffer.concat` in `Connection#processData`), but for the first response, which so gets its own.
 */
export function readingSockets(
  mostBytes: number,
  onError: (error: Error) => void = () => {},
  onSocket: (socket: net.Socket) => void = () => {},
): ISocketFactory {
  return ({ host, port, ssl, onConnect }) => {
    const frames = frameReader((frame) => socket.emit('data', frame), mostBytes);
    const onread = {
      buffer: frames.room,
      callback(length: number): boolean {
        try {
          frames.take(length);
        } catch (error) {
          socket.destroy(error as Error);
        }
        return true;
      },
    };
    const servername = net.isIP(host) ? {} : { servername: host };
    const options = { host, port, onread };
    const socket = ssl ? tls.connect({ ...options, ...servername, ...ssl }, onConnect) : net.connect(options, onConnect);
    onSocket(socket);
    return socket.setKeepAlive(true, keepAliveDelayMs).setNoDelay(true).on('error', onError);
  };
}

/**
 * Cuts a stream into Kafka's frames (a 32-bit length, then as many bytes): the reader fills `room()`, then says how much
 * it was. Small frames are emitted as copies, several at once; a large one is lent until the next large one begins.
 */
export function frameReader(emit: (bytes: Buffer) => void, mostBytes: number) {
  const landing = Buffer.allocUnsafeSlow(landingBytes);
  let landed = 0;
  let reused = Buffer.alloc(0);
  let large: Buffer | null = null;
  let filled = 0;
  let emittedAny = false;

  function emitAll(bytes: Buffer): void {
    emit(bytes);
    emittedAny = true;
  }

  function largeBuffer(bytes: number): Buffer {
    if (!emittedAny || bytes > mostReusedBytes) return Buffer.allocUnsafeSlow(bytes);
    if (reused.length < bytes) reused = Buffer.allocUnsafeSlow(Math.min(mostReusedBytes, Math.ceil(bytes * 1.25)));
    return reused.subarray(0, bytes);
  }

  function takeLarge(length: number): void {
    filled += length;
    if (large === null || filled < large.length) return;
    const frame = large;
    large = null;
    emitAll(frame);
  }

  function takeSmall(length: number): void {
    landed += length;
    const complete = completeBytes(landing, landed, mostBytes);
    if (complete > 0) emitAll(Buffer.from(landing.subarray(0, complete)));
    landing.copyWithin(0, complete, landed);
    landed -= complete;
    if (landed < lengthBytes) return;
    const bytes = frameBytes(landing, 0, mostBytes);
    if (bytes <= landingBytes) return;
    large = largeBuffer(bytes);
    filled = landing.copy(large, 0, 0, landed);
    landed = 0;
  }

  return {
    room: (): Uint8Array => (large ? large.subarray(filled) : landing.subarray(landed)),
    take: (length: number): void => (large ? takeLarge(length) : takeSmall(length)),
  };
}

function completeBytes(bytes: Buffer, end: number, mostBytes: number): number {
  let complete = 0;
  while (end - complete >= lengthBytes) {
    const next = complete + frameBytes(bytes, complete, mostBytes);
    if (next > end) break;
    complete = next;
  }
  return complete;
}

function frameBytes(bytes: Buffer, at: number, mostBytes: number): number {
  const length = lengthBytes + bytes.readInt32BE(at);
  if (length >= lengthBytes && length <= mostBytes) return length;
  throw unexpected(bytes.subarray(at, at + lengthBytes), length, mostBytes);
}

/** Something else may listen there: its bytes are no length, and must not become an allocation. */
function unexpected(bytes: Buffer, length: number, mostBytes: number): UnexpectedBytes {
  // An alert or a handshake of TLS: type, then version 3.x.
  if ((bytes[0] === 0x15 || bytes[0] === 0x16) && bytes[1] === 3) {
    return new UnexpectedBytes('EXPECTED_TLS', 'the port speaks TLS');
  }
  if (length < lengthBytes || bytes.every((byte) => byte >= 0x20 && byte < 0x7f)) {
    return new UnexpectedBytes('NO_BROKER', 'expected the answer of a Kafka broker, got other bytes');
  }
  return new UnexpectedBytes('LARGE_ANSWER', `expected an answer of at most ${mostBytes} bytes, got ${length}`);
}
