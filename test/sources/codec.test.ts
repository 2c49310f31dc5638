import fc from 'fast-check';
import {
  clipByGlobalNorm,
  encodeEvent,
  epochBoundary,
  GradientBatch,
  gradientBatch,
  type LogRecord,
  metricReport,
  type NewRecord,
  type TrainingEvent,
} from 'rxgrad';
import { firstValueFrom, of } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { EventDecoder } from '../../src/sources/codec.ts';

const delivery = { position: { topic: 'g', partition: 0, offset: 41 }, source: { done: () => {} } };

function record({ value, headers = {} }: NewRecord): LogRecord {
  return { offset: 41, key: null, value, headers, timestampMs: 0 };
}

function decode(encoded: NewRecord, decoder = new EventDecoder()): TrainingEvent {
  return decoder.decode(record(encoded), delivery);
}

const facts = {
  worker: 'w1',
  sequence: 7,
  base: 12340,
  batchSize: 32,
  epoch: 3,
  norm: Math.SQRT2,
  loss: 0.43,
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
};
const batch = gradientBatch({
  gradients: { w: { dims: [2, 2], data: Float32Array.of(3, -0, 0, 4) }, b: { dims: [], data: Float32Array.of(12) } },
  ...facts,
});

describe('an event on the wire', () => {
  it('is a CloudEvent in binary mode', () => {
    const { key, headers, value } = encodeEvent(batch, { key: 'model' });
    expect(key).toBe('model');
    expect(headers).toEqual({
      ce_specversion: '1.0',
      ce_type: 'rxgrad.gradients.v1',
      ce_source: 'w1',
      ce_id: '7',
      ce_gradient: 'base=12340, batch=32, epoch=3, norm=1.4142135623730951, loss=0.43',
      traceparent: facts.traceparent,
    });
    expect(value).toBeInstanceOf(Buffer);
  });

  it('gives back gradients and facts', () => {
    const event = decode(encodeEvent(batch)) as GradientBatch;
    expect(event).toMatchObject({ kind: 'gradients', facts, delivery, gradients: batch.gradients });
    expect(event.message.layout.tensors.map(({ dims }) => dims)).toEqual([[2, 2], []]);
  });

  it('carries what stages did to the gradients', async () => {
    const clipped = (await firstValueFrom(of(batch).pipe(clipByGlobalNorm(6.5)))) as GradientBatch;
    expect(decode(encodeEvent(clipped))).toMatchObject({
      gradients: { w: Float32Array.of(1.5, -0, 0, 2), b: Float32Array.of(6) },
      pending: null,
    });
    // The producer's norm is of gradients that are no more.
    expect(encodeEvent(clipped).headers!.ce_gradient).toBe('base=12340, batch=32, epoch=3, loss=0.43');
  });

  it('may have no tensors', () => {
    const event = decode(encodeEvent(gradientBatch({ gradients: {}, norm: 5 })));
    expect(event).toMatchObject({ kind: 'gradients', facts: { norm: 5 }, gradients: {}, rows: {} });
  });

  it.each([[epochBoundary(12)], [metricReport({ name: 'validation loss', value: -0.25 })]])('gives back %o', (event) => {
    const encoded = encodeEvent(event, { source: 'trainer', sequence: 4 });
    expect(encoded.headers).toMatchObject({ ce_type: `rxgrad.${event.kind}.v1`, ce_source: 'trainer', ce_id: '4' });
    expect(decode(encoded)).toEqual({ ...event, delivery });
  });

  it('may have its headers as bytes, as Kafka hands them over', () => {
    const { value, headers } = encodeEvent(batch);
    const bytes = Object.entries(headers!).map(([name, text]) => [name, new TextEncoder().encode(text as string)]);
    expect(decode({ value, headers: Object.fromEntries(bytes) })).toMatchObject({ kind: 'gradients', facts });
  });

  it('as bytes is told from one whose headers it begins, or that begin it', () => {
    const decoder = new EventDecoder();
    const asBytes = (worker: string, base: number): NewRecord => {
      const { headers, ...rest } = encodeEvent(
        gradientBatch({ gradients: { w: Float32Array.of(1) }, worker, sequence: 1, base }),
      );
      const entries = Object.entries(headers!).map(([name, value]) => [name, Buffer.from(value as string)]);
      return { ...rest, headers: Object.fromEntries(entries) };
    };
    const sent: [string, number][] = [
      ['w12', 12],
      ['w1', 1],
      ['w1', 12],
      ['w12', 1],
      ['w', 123],
      ['x1', 2],
      ['x2', 2],
    ];
    for (const [worker, base] of sent) {
      const { facts: read } = decode(asBytes(worker, base), decoder) as GradientBatch;
      expect([read.worker, read.base]).toEqual([worker, base]);
    }
  });

  it('as bytes is the same from the middle of a buffer, and after another one of other headers', () => {
    const decoder = new EventDecoder();
    const { value, headers } = encodeEvent(batch);
    const within = (text: string) => new Uint8Array(Buffer.from(`..${text}..`)).subarray(2, 2 + Buffer.byteLength(text));
    const bytes = Object.fromEntries(Object.entries(headers!).map(([name, text]) => [name, within(text as string)]));
    const workerOf = (ce_source: string | Uint8Array) =>
      (decode({ value, headers: { ...bytes, ce_source } }, decoder) as GradientBatch).facts.worker;
    expect([within('w1'), 'w2', within('w1'), within('w2')].map(workerOf)).toEqual(['w1', 'w2', 'w1', 'w2']);
    // A text is not taken for the bytes that its digits are.
    expect([workerOf('12'), workerOf(Uint8Array.of(1, 2))]).toEqual(['12', '\u0001\u0002']);
    const [long, other] = [within('x'.repeat(2000)), within(`${'x'.repeat(1999)}y`)];
    expect(workerOf(long)).not.toBe(workerOf(other));
    expect(workerOf(within('w2'))).toBe('w2');
    // What is known again is a copy: whoever sent it writes over it.
    const reused = within('w1');
    expect(workerOf(reused)).toBe('w1');
    reused.set(Buffer.from('w9'));
    expect(workerOf(reused)).toBe('w9');
  });

  it('has the source and the count of its envelope, and no more than is known', () => {
    const bare = gradientBatch({ gradients: { w: Float32Array.of(1) } });
    expect(encodeEvent(bare).headers).toMatchObject({ ce_type: 'rxgrad.gradients.v1' });
    expect(Object.keys(encodeEvent(bare).headers!).sort()).toEqual(['ce_source', 'ce_specversion', 'ce_type']);
    expect(encodeEvent(bare).key).toBeNull();
    expect(encodeEvent(batch, { source: 'proxy', sequence: 99 }).headers).toMatchObject({ ce_source: 'proxy', ce_id: '7' });
    expect(encodeEvent(bare, { sequence: 0 }).headers!.ce_id).toBe('0');
  });

  it('shares its layout with those of the same form', () => {
    const decoder = new EventDecoder();
    const [first, second] = [0, 1].map(() => decode(encodeEvent(batch), decoder) as GradientBatch);
    expect(second!.message.layout).toBe(first!.message.layout);
  });
});

it('says an incarnation, and no metric’s name that would not be read', () => {
  const reborn = gradientBatch({ gradients: { w: Float32Array.of(1) }, worker: 'w', sequence: 0, incarnation: 7 });
  expect(encodeEvent(reborn).headers!.ce_gradient).toBe('incarnation=7');
  expect(decode(encodeEvent(reborn))).toMatchObject({ facts: { worker: 'w', sequence: 0, incarnation: 7 } });
  expect(() => encodeEvent(metricReport({ name: 'a'.repeat(257), value: 1 }))).toThrow('at most 256 characters');
});

describe('a record that cannot be read is a rejection', () => {
  const { value, headers } = encodeEvent(batch);
  const epoch = encodeEvent(epochBoundary(1)).headers;
  const metric = encodeEvent(metricReport({ name: 'a', value: 1 })).headers;
  const json = (body: string) => Buffer.from(body);

  it.each<[string, NewRecord, string]>([
    ['without a type', { value, headers: {} }, 'got none'],
    ['of another type', { value, headers: { ce_type: 'other.v1' } }, 'got "other.v1"'],
    ['without a value', { value: null, headers: headers! }, 'a record without a value'],
    ['with a broken gradient header', { value, headers: { ...headers, ce_gradient: 'base=x' } }, 'base is no number in "base=x"'],
    ...['x', '', ' ', '1/', '1:', '-1', '1.5', '0x10', '1e3', '9007199254740993'].map((id): [string, NewRecord, string] => [
      `with the sequence "${id}"`,
      { value, headers: { ...headers, ce_id: id } },
      `a sequence number as ce_id, got "${id}"`,
    ]),
    ['that is no safetensors file', { value: json('hello'), headers: headers! }, 'got 5 bytes'],
    ['without JSON', { value: json('epoch 5'), headers: epoch! }, 'expected JSON, got "epoch 5"'],
    ['without a body', { value: null, headers: epoch! }, 'got no value'],
    ['with a JSON number', { value: json('5'), headers: epoch! }, 'expected a JSON object, got "5"'],
    ['with JSON null', { value: json('null'), headers: epoch! }, 'expected a JSON object, got "null"'],
    ['with a broken epoch', { value: json('{"epoch":1.5}'), headers: epoch! }, 'whole number of at least 0'],
    ['with a negative epoch', { value: json('{"epoch":-1}'), headers: epoch! }, 'whole number of at least 0'],
    ['with an endless metric', { value: json('{"name":"a","value":1e999}'), headers: metric! }, 'a finite value'],
    [
      'with a metric of a long name',
      { value: json(`{"name":"${'a'.repeat(257)}","value":1}`), headers: metric! },
      'at most 256 characters',
    ],
    [
      'with a long gradient header',
      { value, headers: { ...headers, ce_gradient: `${' '.repeat(1020)}base=12` } },
      'at most 1024 bytes',
    ],
    [
      'with a broken incarnation',
      { value, headers: { ...headers, ce_gradient: 'incarnation=-1' } },
      'incarnation is no whole number',
    ],
    ['with a nameless metric', { value: json('{"value":1}'), headers: metric! }, 'a metric with a name'],
    [
      'with 64 KiB of JSON',
      { value: Buffer.alloc((64 << 10) + 1, 32), headers: metric! },
      'at most 65536 bytes, got 65537 bytes',
    ],
  ])('%s', (_, encoded, words) => {
    const event = decode(encoded);
    expect(event).toMatchObject({ kind: 'rejection', reason: 'undecodable', position: delivery.position, delivery });
    expect(event).toMatchObject({ error: { message: expect.stringContaining(words) } });
    expect(event).toMatchObject({ error: { message: expect.stringMatching(/^g\/0@41: /) } });
  });

  it('but not at its limits', () => {
    const { ce_gradient: _, ...bare } = headers!;
    const kinds = [
      { value, headers: { ...headers, ce_gradient: `${' '.repeat(1018)}base=1` } },
      { value, headers: { ...headers, ce_id: '9007199254740991' } },
      { value, headers: { ...headers, ce_id: Buffer.from('0') } },
      { value, headers: bare },
      { value: json(`${JSON.stringify({ epoch: 0 })}${' '.repeat((64 << 10) - 11)}`), headers: epoch! },
      { value: json(JSON.stringify({ name: 'a'.repeat(256), value: 0 })), headers: metric! },
    ].map((one) => decode(one).kind);
    expect(kinds).toEqual(['gradients', 'gradients', 'gradients', 'gradients', 'epoch', 'metric']);
    expect(encodeEvent(metricReport({ name: 'a'.repeat(256), value: 1 })).value).not.toBeNull();
  });

  it.each(['{"epoch":9007199254740992}', '{"epoch":"1"}', '{}', '[]'])('where the epoch is %s', (body) => {
    expect(decode({ value: json(body), headers: epoch! })).toMatchObject({ kind: 'rejection', reason: 'undecodable' });
  });

  it.each(['{"name":1,"value":1}', '{"name":"a","value":"1"}', '{"name":"a"}'])('where the metric is %s', (body) => {
    expect(decode({ value: json(body), headers: metric! })).toMatchObject({ kind: 'rejection', reason: 'undecodable' });
  });

  it('whose long texts are cut where they are told', () => {
    const long = decode({ value, headers: { ce_type: Buffer.from('x'.repeat(5000)) } });
    expect(long).toMatchObject({ kind: 'rejection' });
    expect(JSON.stringify(long).length).toBeLessThan(2000);
  });

  it('that says whose it was, where that could be read', () => {
    expect(decode({ value: null, headers: headers! })).toMatchObject({ worker: 'w1', sequence: 7 });
  });
});

describe('a damaged record', () => {
  const damage = fc.record({
    flips: fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 255 })), { maxLength: 4 }),
    keep: fc.oneof(fc.constant(1), fc.double({ min: 0, max: 1, noNaN: true })),
  });
  const events = [batch, epochBoundary(3), metricReport({ name: 'loss', value: 1.5 })].map((event) => encodeEvent(event));

  function damaged(bytes: Uint8Array, { flips, keep }: { flips: [number, number][]; keep: number }): Buffer {
    const copy = Buffer.from(bytes.subarray(0, Math.ceil(keep * bytes.byteLength)));
    for (const [at, mask] of flips) if (copy.byteLength > 0) copy[at % copy.byteLength]! ^= mask;
    return copy;
  }

  it('never throws: it is an event of its kind or a rejection', () => {
    const decoder = new EventDecoder();
    fc.assert(
      fc.property(fc.constantFrom(...events), damage, damage, fc.nat(), ({ value, headers }, body, head, which) => {
        const [name, text] = Object.entries(headers!)[which % Object.keys(headers!).length]!;
        const broken = { ...headers, [name]: damaged(Buffer.from(text), head) };
        const event = decode({ value: damaged(value!, body), headers: broken }, decoder);
        if (event instanceof GradientBatch) {
          const { layout, payload } = event.message;
          expect(payload.byteLength).toBe(layout.byteLength);
          for (const data of Object.values(event.gradients)) expect(data).toBeInstanceOf(Float32Array);
        } else if (event.kind === 'rejection') expect(event.error.disposition).toBe('skip');
        else if (event.kind === 'epoch') expect(event.epoch).toSatisfy(Number.isSafeInteger);
        else expect(event.value).toSatisfy(Number.isFinite);
      }),
      { numRuns: 3000 },
    );
  });
});
