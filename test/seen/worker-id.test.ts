import fc from 'fast-check';
import { encodeEvent, type GradientBatch, gradientBatch } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { EventDecoder } from '../../src/sources/codec.ts';
import { boundedWorker, workerBytes, workerOf } from '../../src/worker-id.ts';

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');

describe('a worker’s id', () => {
  it('stands for its bytes, and for no others', () => {
    const near = fc.array(fc.constantFrom(0x41, 0x80, 0xbf, 0xc3, 0xa9, 0xe2, 0x82, 0xed, 0xa0, 0xf0, 0x9f), {
      minLength: 1,
      maxLength: 6,
    });
    const id = fc.oneof(near, fc.array(fc.nat(255), { minLength: 1, maxLength: 20 })).map((all) => Buffer.from(all));
    fc.assert(
      fc.property(id, id, (a, b) => {
        fc.pre(a.toString('latin1') !== 'rxgrad' && b.toString('latin1') !== 'rxgrad');
        expect(workerBytes(workerOf(a)!)).toEqual(a);
        expect(workerOf(a) === workerOf(b)).toBe(a.equals(b));
      }),
      { numRuns: 2000 },
    );
  });

  it('of UTF-8 is its text, as bytes or as a string', () => {
    for (const text of ['worker-1', 'José', '💡', '\u0000']) {
      expect(workerOf(text)).toBe(text);
      expect(workerOf(Buffer.from(text))).toBe(text);
    }
  });

  it('of more than 1,024 bytes is its digest, which no other id looks like', () => {
    const [a, b] = ['a', 'b'].map((end) => 'é'.repeat(600) + end);
    expect(workerOf(a)).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(workerOf(Buffer.from(a!))).toBe(workerOf(a));
    expect(workerOf(a)).not.toBe(workerOf(b));
    expect(workerOf(workerOf(a))).not.toBe(workerOf(a));
    expect(workerOf('x'.repeat(1024))).toBe('x'.repeat(1024));
  });

  it('made in process may be any text: what no bytes are read as has its digest', () => {
    const halves = ['\ud800', '\ud801', 'a\udc7f', '\udcc3\udca9'];
    expect(new Set(halves.map(boundedWorker)).size).toBe(4);
    for (const half of halves) expect(boundedWorker(half)).toMatch(/^sha256:/);
    expect(boundedWorker(workerOf(bytes('Jos\xe9'))!)).toBe('Jos\udce9');
  });

  it.each([undefined, '', 'rxgrad', Buffer.of(), Buffer.from('rxgrad')])('is missing where the header is %o', (header) => {
    expect(workerOf(header)).toBeUndefined();
  });

  it('keeps its bytes when its batch is written again', () => {
    const decoder = new EventDecoder();
    const delivery = { position: { topic: 'g', partition: 0, offset: 0 }, source: { done: () => {} } };
    const read = (headers: Readonly<Record<string, string | Uint8Array>>) => {
      const { value } = encodeEvent(gradientBatch({ gradients: { w: Float32Array.of(1) }, sequence: 1 }));
      return decoder.decode({ offset: 0, key: null, value, headers, timestampMs: 0 }, delivery) as GradientBatch;
    };
    const { headers } = encodeEvent(gradientBatch({ gradients: { w: Float32Array.of(1) }, sequence: 1 }));
    const [first, second] = [bytes('Jos\xe9'), bytes('Jos\xe8')].map((ce_source) => read({ ...headers, ce_source }));
    expect(first!.facts.worker).not.toBe(second!.facts.worker);
    expect(encodeEvent(first!).headers!.ce_source).toEqual(bytes('Jos\xe9'));
    expect(read(headers as Record<string, string>).facts.worker).toBeUndefined();
  });
});
