import net from 'node:net';
import tls from 'node:tls';
import type { ISocketFactory } from 'kafkajs';

const keepAliveDelayMs = 60_000;
const landingBytes = 64 * 1024;
const mostReusedBytes = 96 * 2 ** 20;
const mostFrameBytes = 2 ** 30;
const lengthBytes = 4;

/**
 * Makes sockets for kafkajs that read a large response straight into one buffer (net's `onread`), where kafkajs otherwise
 * gathers it from chunks of 64 KB. TLS reads as ever.
 *
 * The buffer is used again for the next large response of the connection: kafkajs 2.2.4 copies what it gets before the
 * `data` event returns (`Buffer.concat` in `Connection#processData`), but for the first response, which so gets its own.
 */
export function readingSockets(): ISocketFactory {
  return ({ host, port, ssl, onConnect }) => {
    if (ssl) {
      const servername = net.isIP(host) ? {} : { servername: host };
      return tls.connect({ host, port, ...servername, ...ssl }, onConnect).setKeepAlive(true, keepAliveDelayMs);
    }
    const frames = frameReader((frame) => socket.emit('data', frame));
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
    const socket = net.connect({ host, port, onread }, onConnect);
    return socket.setKeepAlive(true, keepAliveDelayMs).setNoDelay(true);
  };
}

/**
 * Cuts a stream into Kafka's frames (a 32-bit length, then as many bytes): the reader fills `room()`, then says how much
 * it was. Small frames are emitted as copies, several at once; a large one is lent until the next large one begins.
 */
export function frameReader(emit: (bytes: Buffer) => void) {
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
    const complete = completeBytes(landing, landed);
    if (complete > 0) emitAll(Buffer.from(landing.subarray(0, complete)));
    landing.copyWithin(0, complete, landed);
    landed -= complete;
    if (landed < lengthBytes) return;
    const bytes = frameBytes(landing, 0);
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

function completeBytes(bytes: Buffer, end: number): number {
  let complete = 0;
  while (end - complete >= lengthBytes) {
    const next = complete + frameBytes(bytes, complete);
    if (next > end) break;
    complete = next;
  }
  return complete;
}

function frameBytes(bytes: Buffer, at: number): number {
  const length = lengthBytes + bytes.readInt32BE(at);
  // Something else listens there: its bytes are no length, and must not become an allocation.
  if (length < lengthBytes || length > mostFrameBytes) throw new Error('expected the answer of a Kafka broker, got other bytes');
  return length;
}
