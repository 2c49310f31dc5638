import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { frameReader } from '../../../src/sources/kafka/reading-socket.ts';

const mostBytes = 1_000_000;

describe('frameReader', () => {
  it('hands on every byte in whole frames, however they arrive', () => {
    const size = fc.oneof(fc.nat(200), fc.integer({ min: 65_500, max: 65_600 }), fc.integer({ min: 65_536, max: 300_000 }));
    const reads = fc.array(fc.integer({ min: 1, max: 100_000 }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(fc.array(size, { minLength: 1, maxLength: 8 }), reads, (sizes, readSizes) => {
        const sent = Buffer.concat(sizes.map(frame));
        const emitted = read(sent, readSizes);
        expect(Buffer.compare(Buffer.concat(emitted), sent)).toBe(0);
        for (const bytes of emitted) expect(endsOfFrames(bytes).at(-1)).toBe(bytes.length);
        for (const i of sizes.keys())
          if (sizes[i]! > 65_536) expect(emitted.map(({ length }) => length)).toContain(sizes[i]! + 4);
      }),
      { numRuns: 60 },
    );
  });

  it('never writes again to the small frames, nor to a large first one', () => {
    const kept: Buffer[] = [];
    const reader = frameReader((bytes) => kept.push(bytes), mostBytes);
    const sizes = [100_000, 10, 90_000, 20, 80_000];
    feed(reader, Buffer.concat(sizes.map(frame)), [7000]);
    expect(kept.map(({ length }) => length - 4)).toEqual(sizes);
    for (const i of [0, 1, 3]) expect(Buffer.compare(kept[i]!, frame(sizes[i]!, i))).toBe(0);
  });

  it('refuses bytes that are no frames', () => {
    expect(() => read(Buffer.from('HTTP/1.1 400 Bad Request'), [1000])).toThrow('expected the answer of a Kafka broker');
    expect(() => read(Buffer.from([255, 255, 255, 255]), [4])).toThrow('expected the answer of a Kafka broker');
    expect(() => read(Buffer.from([0x15, 3, 3, 0, 2, 2, 80]), [7])).toThrow('the port speaks TLS');
  });

  it('refuses a frame above the limit before there is room for it', () => {
    const before = process.memoryUsage().arrayBuffers;
    const length = Buffer.alloc(4);
    length.writeInt32BE(mostBytes - 3);
    expect(() => read(length, [4])).toThrow(`expected an answer of at most ${mostBytes} bytes, got ${mostBytes + 1}`);
    length.writeInt32BE(0x10000000);
    expect(() => read(length, [4])).toThrow('at most');
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4_000_000);
  });
});

type Reader = ReturnType<typeof frameReader>;

function frame(size: number, seed: number): Buffer {
  const bytes = Buffer.alloc(4 + size, seed + 1);
  bytes.writeInt32BE(size);
  return bytes;
}

/** Copies what is emitted, as kafkajs does. */
function read(sent: Buffer, readSizes: readonly number[]): Buffer[] {
  const emitted: Buffer[] = [];
  feed(
    frameReader((bytes) => emitted.push(Buffer.from(bytes)), mostBytes),
    sent,
    readSizes,
  );
  return emitted;
}

function feed(reader: Reader, sent: Buffer, readSizes: readonly number[]): void {
  for (let at = 0, i = 0; at < sent.length; i++) {
    const room = reader.room();
    const length = Math.min(room.length, readSizes[i % readSizes.length]!, sent.length - at);
    room.set(sent.subarray(at, at + length));
    reader.take(length);
    at += length;
  }
}

function endsOfFrames(bytes: Buffer): number[] {
  const ends: number[] = [];
  for (let at = 0; at < bytes.length; ) {
    at += 4 + bytes.readInt32BE(at);
    ends.push(at);
  }
  return ends;
}
