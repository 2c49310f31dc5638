import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import {
  accumulate,
  deadLetters,
  encodeEvent,
  epochBoundary,
  fromTransport,
  GradientBatch,
  gradientBatch,
  isRxgradError,
  type LogRecord,
  memoryTransport,
  momentum,
  type NewRecord,
  type ScanOptions,
  type Transport,
} from 'rxgrad';
import { from, lastValueFrom, type OperatorFunction, pipe, Subject } from 'rxjs';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type RejectionReason, RxgradError } from '../../src/errors.ts';
import { rejection, type TrainingEvent } from '../../src/events.ts';
import { deadLettersOf, originalHeaders, readDeadLetter, sizeOf } from '../../src/sinks/dead-letter.ts';
import { eventually } from '../eventually.ts';
import { batch, batchOf, bitsOf, model } from '../optimizers/batches.ts';
import { slowTransport } from './slow-transport.ts';

const topic = 'g.dead';
const nan = batchOf({ c: Float32Array.of(Number.NaN) });
const record = (value: number, sequence: number): NewRecord =>
  encodeEvent(gradientBatch({ gradients: { b: Float32Array.of(1, 2, value) }, worker: 'w', sequence }));
const good = (sequence: number): NewRecord => record(3, sequence);
const bad = (sequence: number): NewRecord => record(Number.NaN, sequence);

async function lettersOf(transport: Transport): Promise<LogRecord[]> {
  const letters: LogRecord[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const [end] = await transport.endOffsets(topic);
  if (end === 0) return [];
  const consumption = await transport.consume({
    topic,
    from: 'beginning',
    deliver(_, __, records) {
      letters.push(...records);
      if (letters.length >= end!) resolve();
    },
    onError: (error) => {
      throw error;
    },
  });
  await promise;
  await consumption.stop();
  return letters;
}

/** Goes through records of topic `g`, and returns how the stream ended. */
async function run(
  transport: Transport,
  records: readonly NewRecord[],
  { stages = pipe(), ...options }: ScanOptions & { stages?: OperatorFunction<TrainingEvent, TrainingEvent> } = {},
): Promise<unknown> {
  await transport.createTopic('g');
  await transport.produce('g', records);
  const rejections = options.rejections ?? deadLetters(transport, { topic });
  const updates$ = fromTransport(transport, { topic: 'g', from: 'beginning', until: 'end' }).pipe(
    stages,
    momentum(model(), { ...options, rejections }),
  );
  return lastValueFrom(updates$, { defaultValue: null }).then(
    () => 'completed',
    (error: unknown) => error,
  );
}

describe('a dead letter', () => {
  it('is the record as it came, to the byte, and says why', async () => {
    const transport = memoryTransport();
    const sent: NewRecord = { ...bad(7), key: 'model', headers: { ...bad(7).headers, blob: Uint8Array.of(0, 255, 128) } };
    expect(await run(transport, [good(1), sent, good(8)])).toBe('completed');
    const [letter, ...others] = await lettersOf(transport);
    expect(others).toEqual([]);
    expect(letter!.key).toEqual(new Uint8Array(Buffer.from('model')));
    expect(Buffer.from(letter!.value!)).toEqual(Buffer.from(sent.value!));
    expect(originalHeaders(letter!.headers)).toEqual(sent.headers);
    expect(letter!.headers).toMatchObject({
      rxgrad_reason: 'notFinite',
      rxgrad_code: 'RXGRAD_NOT_FINITE',
      rxgrad_message: 'g/0@1: expected finite gradients, got NaN or Infinity in "b"',
      rxgrad_topic: 'g',
      rxgrad_partition: '0',
      rxgrad_offset: '1',
      rxgrad_timestamp: expect.stringMatching(/^\d{13}$/),
      rxgrad_at: 'Momentum',
      rxgrad_attempt: '1',
    });
    expect(readDeadLetter(letter!, 0)).toMatchObject({
      offset: 0,
      position: { topic: 'g', partition: 0, offset: 1 },
      worker: 'w',
      sequence: '7',
    });
  });

  it('holds also what could not be read at all', async () => {
    const transport = memoryTransport();
    await run(transport, [{ value: null }, { value: Uint8Array.of(1), headers: { ce_type: 'x' } }]);
    const letters = await lettersOf(transport);
    expect(letters.map(({ key, value }) => [key, value])).toEqual([
      [null, null],
      [null, Uint8Array.of(1)],
    ]);
    expect(letters.map(({ headers }) => [headers.rxgrad_reason, headers.rxgrad_at])).toEqual([
      ['undecodable', 'source'],
      ['undecodable', 'source'],
    ]);
  });

  it('gives back headers of any names, its own among them', () => {
    const value = fc.oneof(fc.string(), fc.uint8Array());
    const name = fc.oneof(
      fc.string({ minLength: 1 }),
      fc.constantFrom('rxgrad_reason', 'rxgrad_original_rxgrad_at', 'rxgrad_', 'ce_id'),
    );
    const error = new RxgradError('emptyBatch', { where: 'g/0@1' });
    fc.assert(
      fc.property(fc.dictionary(name, value, { noNullPrototype: true }), (headers) => {
        const came: LogRecord = { offset: 1, key: null, value: null, headers, timestampMs: 5 };
        const delivery = { position: { topic: 'g', partition: 0, offset: 1 }, source: { done() {} }, record: came };
        const [letter] = deadLettersOf(rejection(error, delivery));
        expect(originalHeaders(letter!.headers!)).toEqual(headers);
      }),
    );
  });

  it('does not keep alive what its record was fetched with', () => {
    const fetched = new Uint8Array(1 << 20);
    const delivery = (value: Uint8Array) => ({
      position: { topic: 'g', partition: 0, offset: 1 },
      source: { done() {} },
      record: { offset: 1, key: value, value, headers: { h: value }, timestampMs: 5 },
    });
    const error = new RxgradError('emptyBatch', { where: 'g/0@1' });
    const [small] = deadLettersOf(rejection(error, delivery(fetched.subarray(0, 100))));
    for (const part of [small!.key, small!.value, small!.headers!.h])
      expect((part as Uint8Array).buffer.byteLength).toBeLessThan(10_000);
    const [large] = deadLettersOf(rejection(error, delivery(fetched.subarray(0, 1_000_000))));
    expect(large!.value!.buffer).toBe(fetched.buffer);
  });

  it('is one for each part of what was merged', async () => {
    const transport = memoryTransport();
    const wrong = (sequence: number) =>
      encodeEvent(gradientBatch({ gradients: { d: Float32Array.of(1) }, worker: 'w', sequence }));
    await run(transport, [wrong(1), bad(2), wrong(3)], { stages: accumulate(2) });
    const letters = (await lettersOf(transport)).map((letter) => readDeadLetter(letter, 0)!);
    expect(letters.map(({ reason, at, position }) => [reason, at, position!.offset])).toEqual([
      ['notFinite', 'accumulate', 1],
      ['unknownParameter', 'Momentum', 0],
      ['unknownParameter', 'Momentum', 2],
    ]);
  });

  it('of an event made in process holds its tensors, without a position', async () => {
    const transport = memoryTransport();
    const params = model();
    const events = [nan, epochBoundary(-1), batch()];
    await lastValueFrom(from<TrainingEvent[]>(events).pipe(momentum(params, { rejections: deadLetters(transport, { topic }) })));
    const letters = await lettersOf(transport);
    expect(letters.map((letter) => readDeadLetter(letter, 0)!.position)).toEqual([null, null]);
    expect(letters.map(({ headers }) => headers.ce_type)).toEqual(['rxgrad.gradients.v1', 'rxgrad.epoch.v1']);
    expect(letters[0]!.value!.byteLength).toBeGreaterThan(8);
  });

  it('is not written of what merely came twice, but where that is asked for', async () => {
    const [transport, other] = [memoryTransport(), memoryTransport()];
    await run(transport, [good(1), good(1), bad(2)]);
    await run(other, [good(1), good(1), bad(2)], { rejections: deadLetters(other, { topic, duplicates: true }) });
    const reasons = async (of: Transport) => (await lettersOf(of)).map(({ headers }) => headers.rxgrad_reason);
    expect(await reasons(transport)).toEqual(['notFinite']);
    expect(await reasons(other)).toEqual(['duplicate', 'notFinite']);
  });
});

describe('dead letters are never lost:', () => {
  const deliveredTo = (done: number[], offset: number, { message }: GradientBatch): GradientBatch => {
    const source = { done: (position: { offset: number }) => void done.push(position.offset) };
    return new GradientBatch({ ...message, delivery: { position: { topic: 'g', partition: 0, offset }, source } }, null);
  };

  it('nothing is acknowledged before those in front of it are kept', async () => {
    const { transport, waiting } = slowTransport(topic);
    const events$ = new Subject<TrainingEvent>();
    const done: number[] = [];
    const params = model();
    events$.pipe(momentum(params, { rejections: deadLetters(transport, { topic }) })).subscribe();
    const send = (offset: number, event: GradientBatch) => events$.next(deliveredTo(done, offset, event));
    send(0, batch());
    expect(done).toEqual([0]);
    send(1, nan);
    send(2, batch());
    send(3, nan);
    await turn();
    send(4, batch());
    expect(params.version).toBe(3);
    expect(done).toEqual([0]);
    // 1 and 3 were sent in one turn, and are one append.
    waiting[0]!.go();
    await turn();
    expect(done.at(-1)).toBe(4);
    send(5, batch());
    expect(done.at(-1)).toBe(5);
    expect(done).toEqual(done.toSorted((a, b) => a - b));
  });

  it('a checkpoint can wait for those of its state', async () => {
    const { transport, waiting } = slowTransport(topic);
    const events$ = new Subject<TrainingEvent>();
    const params = model();
    await params.whenRejectionsKept();
    events$.pipe(momentum(params, { rejections: deadLetters(transport, { topic }) })).subscribe();
    await params.whenRejectionsKept();
    events$.next(nan);
    let kept = false;
    const asked = params.whenRejectionsKept().then(() => {
      kept = true;
    });
    await turn();
    expect(kept).toBe(false);
    waiting[0]!.go();
    await asked;
    expect(await transport.endOffsets(topic)).toEqual([1]);
  });

  it('the stream completes behind them', async () => {
    const { transport, waiting } = slowTransport(topic);
    const ended = run(transport, [good(1), bad(2)]);
    let outcome: unknown;
    void ended.then((how) => {
      outcome = how;
    });
    while (waiting.length === 0) await turn();
    await turn();
    expect(outcome).toBeUndefined();
    waiting[0]!.go();
    expect(await ended).toBe('completed');
  });

  it('the stream that too many in a row stop fails behind them', async () => {
    const { transport, waiting } = slowTransport(topic);
    const ended = run(
      transport,
      Array.from({ length: 9 }, (_, i) => bad(i)),
      { maxRejectionsInARow: 5 },
    );
    while (waiting.length === 0) await turn();
    waiting[0]!.go();
    expect(await ended).toMatchObject({ code: 'RXGRAD_TOO_MANY_REJECTIONS' });
    expect(waiting).toHaveLength(1);
    expect(await transport.endOffsets(topic)).toEqual([5]);
  });

  it.each<[string, () => Error, RegExp]>([
    [
      'the transport failed',
      () => new RxgradError('transportFailed', { transport: 'T', problem: 'gone', advice: 'Mend it' }),
      /Dead letters to "g.dead": T: gone. Mend it. Nothing/,
    ],
    ['of a fault', () => new TypeError('a fault'), /a fault/],
  ])('the stream fails where one cannot be written since %s', async (_, error, message) => {
    const { transport, waiting } = slowTransport(topic);
    const ended = run(transport, [bad(1), good(2)]);
    while (waiting.length === 0) await turn();
    waiting[0]!.fail(error());
    expect(String(await ended)).toMatch(message);
  });

  it('are appended one after the other, in the order of their events', async () => {
    const { transport, waiting } = slowTransport(topic);
    const letters = deadLetters(transport, { topic });
    const rejected = (offset: number) =>
      rejection(new RxgradError('emptyBatch', { where: 'g/0@0' }), {
        position: { topic: 'g', partition: 0, offset },
        source: { done() {} },
        record: { offset, key: null, value: null, headers: {}, timestampMs: 5 },
      });
    letters.next(rejected(0));
    await eventually(() => expect(waiting).toHaveLength(1));
    letters.next(rejected(1));
    letters.next(rejected(2));
    for (let turns = 0; turns < 5; turns++) await turn();
    expect(waiting.map(({ records }) => records.length)).toEqual([1]);
    waiting[0]!.go();
    await eventually(() => expect(waiting).toHaveLength(2));
    waiting[1]!.go();
    await letters.flushed();
    expect((await lettersOf(transport)).map(({ headers }) => headers.rxgrad_offset)).toEqual(['0', '1', '2']);
  });

  it('those that never succeed end the stream after half a minute', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    onTestFinished(() => void vi.useRealTimers());
    const { transport, waiting } = slowTransport(topic);
    const ended = run(transport, [bad(1)]);
    const busy = new RxgradError('transportInterrupted', { transport: 'T', problem: 'busy', advice: 'Try again' });
    for (let attempt = 0; attempt < 2; attempt++) {
      await eventually(() => expect(waiting).toHaveLength(attempt + 1));
      vi.setSystemTime(Date.now() + 29_000);
      waiting[attempt]!.fail(busy);
    }
    expect(await ended).toMatchObject({ code: 'RXGRAD_DEAD_LETTERS_FAILED', cause: busy });
    expect(waiting).toHaveLength(2);
  });

  it('those that may succeed later are tried again', async () => {
    const { transport, waiting } = slowTransport(topic);
    const ended = run(transport, [bad(1)]);
    while (waiting.length === 0) await turn();
    waiting[0]!.fail(new RxgradError('transportInterrupted', { transport: 'T', problem: 'busy', advice: 'Try again' }));
    while (waiting.length === 1) await turn();
    waiting[1]!.go();
    expect(await ended).toBe('completed');
  });

  it('the stream fails where the topic is missing and is not to be made', async () => {
    const transport = memoryTransport();
    expect(await run(transport, [bad(1)], { rejections: deadLetters(transport, { topic, create: false }) })).toMatchObject({
      code: 'RXGRAD_DEAD_LETTERS_FAILED',
      cause: { code: 'RXGRAD_UNKNOWN_TOPIC' },
    });
  });

  it('the stream fails at one that is too large, and says how much of it the reason is; those beside it are kept', async () => {
    const { transport, waiting } = slowTransport(topic);
    const ended = run(transport, [bad(1), bad(2)]);
    const tooLarge = () => new RxgradError('oversizedRecord', { where: topic, expected: 100, got: 110 });
    const next = async (at: number) => {
      while (waiting.length <= at) await turn();
      return waiting[at]!;
    };
    const first = await next(0);
    if (first.records.length === 2) {
      first.fail(tooLarge());
      (await next(1)).go();
      (await next(2)).fail(tooLarge());
    } else {
      first.go();
      (await next(1)).fail(tooLarge());
    }
    const error = await ended;
    expect(isRxgradError(error) && error.message).toMatch(
      /"g.dead": the letter of g\/0@1 has \d+ bytes, \d+ of them in the headers that say why, but a record may have 100\. Let/,
    );
    expect(await transport.endOffsets(topic)).toEqual([1]);
  });

  it('the topic is not that of the events', async () => {
    const transport = memoryTransport();
    expect(await run(transport, [bad(1)], { rejections: deadLetters(transport, { topic: 'g' }) })).toMatchObject({
      message: expect.stringContaining('deadLetters: topic: expected another topic than that of the events, got g'),
    });
  });
});

describe('a sink of dead letters', () => {
  const rejected = (offset: number, bytes = 0, by: RxgradError<RejectionReason> = error) =>
    rejection(by, {
      position: { topic: 'g', partition: 0, offset },
      source: { done() {} },
      record: { offset, key: null, value: new Uint8Array(bytes), headers: {}, timestampMs: 5 },
    });
  const error = new RxgradError('emptyBatch', { where: 'g/0@0' });
  const size = (offset: number, bytes: number) => sizeOf(deadLettersOf(rejected(offset, bytes))[0]!).bytes;

  /** Whether a promise is settled by now; of none, that nobody has to wait. */
  async function isOver(promise: Promise<unknown> | undefined): Promise<boolean> {
    if (!promise) return true;
    let over = false;
    void promise.then(
      () => (over = true),
      () => (over = true),
    );
    for (let turns = 0; turns < 5; turns++) await turn();
    return over;
  }

  it('lets the scan go on below its limit of letters, and at it not before some are kept', async () => {
    const { transport, waiting } = slowTransport(topic);
    const letters = deadLetters(transport, { topic, maxInFlight: 2 });
    expect(letters.next(rejected(0))).toBeUndefined();
    const [second, third] = [letters.next(rejected(1)), letters.next(rejected(2))];
    expect([await isOver(second as Promise<void>), await isOver(third as Promise<void>)]).toEqual([false, false]);
    // The first ones were sent together, or the first one alone.
    while (!(await isOver(third as Promise<void>))) waiting.at(-1)!.go();
    expect(await isOver(second as Promise<void>)).toBe(true);
    expect(letters.next(rejected(3))).toBeUndefined();
  });

  it('lets the scan go on below its limit of bytes, and at it not before some are kept', async () => {
    const { transport, waiting } = slowTransport(topic);
    const letters = deadLetters(transport, { topic, maxBytes: size(0, 100) + size(1, 100) });
    expect(letters.next(rejected(0, 100))).toBeUndefined();
    const second = letters.next(rejected(1, 100)) as Promise<void>;
    expect(await isOver(second)).toBe(false);
    while (!(await isOver(second))) waiting.at(-1)!.go();
    await letters.flushed();
    // All of the room is there again, and no more.
    expect(letters.next(rejected(2, 100))).toBeUndefined();
    const fourth = letters.next(rejected(3, 101));
    expect(await isOver(fourth as Promise<void>)).toBe(false);
    while (!(await isOver(fourth as Promise<void>))) waiting.at(-1)!.go();
  });

  it('is flushed when what it had been given is kept, whatever came since', async () => {
    const { transport, waiting } = slowTransport(topic);
    const letters = deadLetters(transport, { topic });
    expect(await isOver(letters.flushed())).toBe(true);
    letters.next(rejected(0));
    await eventually(() => expect(waiting).toHaveLength(1));
    const flushed = letters.flushed();
    letters.next(rejected(1));
    const all = letters.flushed();
    waiting[0]!.go();
    expect([await isOver(flushed), await isOver(all)]).toEqual([true, false]);
    waiting[1]!.go();
    await all;
  });

  it('takes nothing any more once a letter could not be kept, and says why each time', async () => {
    const { transport, waiting } = slowTransport(topic);
    const letters = deadLetters(transport, { topic, maxInFlight: 1 });
    const held = letters.next(rejected(0)) as Promise<void>;
    await eventually(() => expect(waiting).toHaveLength(1));
    const gone = new RxgradError('transportFailed', { transport: 'T', problem: 'gone', advice: 'Mend it' });
    waiting[0]!.fail(gone);
    const failed = { key: 'deadLettersFailed', cause: gone };
    await expect(held).rejects.toMatchObject(failed);
    await expect(letters.flushed()).rejects.toMatchObject(failed);
    expect(() => letters.next(rejected(1))).toThrow(expect.objectContaining(failed));
    expect(waiting).toHaveLength(1);
  });

  it('passes a fault on as it is, and says once what the topic is', async () => {
    for (const [error, expected] of [
      [new TypeError('a fault'), new TypeError('a fault')],
      [
        new RxgradError('oversizedRecord', { where: topic, expected: 100, got: 110 }),
        expect.objectContaining({ message: expect.stringMatching(/^Dead letters to "g.dead": the letter of g\/0@0 has/) }),
      ],
    ] as const) {
      const { transport, waiting } = slowTransport(topic);
      const letters = deadLetters(transport, { topic });
      letters.next(rejected(0));
      await eventually(() => expect(waiting).toHaveLength(1));
      waiting[0]!.fail(error);
      await expect(letters.flushed()).rejects.toEqual(expected);
    }
  });

  it('tries again what may succeed later, but not at once', async () => {
    const { transport, waiting } = slowTransport(topic);
    const letters = deadLetters(transport, { topic });
    letters.next(rejected(0));
    await eventually(() => expect(waiting).toHaveLength(1));
    waiting[0]!.fail(new RxgradError('transportInterrupted', { transport: 'T', problem: 'busy', advice: 'Try again' }));
    // Who is busy would be asked again without end.
    for (let turns = 0; turns < 5; turns++) await turn();
    expect(waiting).toHaveLength(1);
    await eventually(() => expect(waiting).toHaveLength(2));
    waiting[1]!.go();
    await letters.flushed();
  });

  it('makes its topic once, or looks that it is there', async () => {
    const memory = memoryTransport();
    const [created, asked] = [vi.spyOn(memory, 'createTopic'), vi.spyOn(memory, 'endOffsets')];
    const letters = deadLetters(memory, { topic });
    for (const offset of [0, 1]) {
      letters.next(rejected(offset));
      await letters.flushed();
    }
    expect([created.mock.calls, asked.mock.calls]).toEqual([[[topic]], []]);
    const looking = deadLetters(memory, { topic, create: false });
    looking.next(rejected(2));
    await looking.flushed();
    expect([created.mock.calls.length, asked.mock.calls]).toEqual([1, [[topic]]]);
  });

  it('says of a letter without a place that it is too large, too', async () => {
    const memory = memoryTransport();
    const tooLarge = () => Promise.reject(new RxgradError('oversizedRecord', { where: topic, expected: 100, got: 110 }));
    const letters = deadLetters({ ...memory, produce: tooLarge }, { topic });
    letters.next(rejection(error, null, {}, { event: epochBoundary(1) as never }));
    await expect(letters.flushed()).rejects.toThrow(
      /the letter of an event made in process has \d+ bytes, \d+ of them in the headers that say why/,
    );
  });

  it('keeps what only came twice where it is told to, and refuses to write where events are read', () => {
    const duplicate = new RxgradError('duplicate', { where: 'g/0@1', worker: 'w', sequence: 1 } as never);
    const { transport } = slowTransport(topic);
    expect(deadLetters(transport, { topic, maxInFlight: 1 }).next(rejected(0, 0, duplicate))).toBeUndefined();
    expect(deadLetters(transport, { topic, maxInFlight: 1, duplicates: true }).next(rejected(0, 0, duplicate))).toBeDefined();
    expect(() => deadLetters(transport, { topic: 'g' }).next(rejected(0))).toThrow('another topic than that of the events');
  });
});

describe('a stream of nothing but bad events', () => {
  it('waits where as many letters are under way as may be, in order', async () => {
    const { transport, waiting } = slowTransport(topic);
    const rejections = deadLetters(transport, { topic, maxInFlight: 10 });
    const ended = run(transport, [...Array.from({ length: 95 }, (_, i) => bad(i)), good(95), good(96)], { rejections });
    const sizes: number[] = [];
    let over = false;
    void ended.then(() => {
      over = true;
    });
    while (!over) {
      const append = waiting[sizes.length];
      if (append) {
        await turn();
        sizes.push(append.records.length);
        append.go();
      }
      await turn();
    }
    expect(await ended).toBe('completed');
    expect(Math.max(...sizes)).toBeLessThanOrEqual(10);
    const offsets = (await lettersOf(transport)).map(({ headers }) => Number(headers.rxgrad_offset));
    expect(offsets).toEqual(Array.from({ length: 95 }, (_, i) => i));
  });

  it('waits where letters under way have as many bytes as may be', async () => {
    const { transport, waiting } = slowTransport(topic);
    const bytesOf = (letters: readonly NewRecord[]) => letters.reduce((sum, letter) => sum + sizeOf(letter).bytes, 0);
    const rejections = deadLetters(transport, { topic, maxBytes: 2000 });
    const ended = run(
      transport,
      Array.from({ length: 40 }, (_, i) => bad(i)),
      { rejections },
    );
    const sizes: number[] = [];
    let over = false;
    void ended.then(() => {
      over = true;
    });
    while (!over) {
      const append = waiting[sizes.length];
      if (append) {
        for (let turns = 0; turns < 5; turns++) await turn();
        sizes.push(bytesOf(append.records));
        append.go();
      }
      await turn();
    }
    expect(await ended).toBe('completed');
    const one = bytesOf((await lettersOf(transport)).slice(-1));
    // The letter that reaches the limit still goes; what was let through makes room again.
    expect(Math.max(...sizes)).toBeLessThan(2000 + one);
    expect(Math.max(...sizes)).toBeGreaterThanOrEqual(2000 - one);
    expect(await transport.endOffsets(topic)).toEqual([40]);
  });

  it('waits for bytes, too, and steps as if nothing had been', async () => {
    const transport = memoryTransport();
    const [disturbed, calm] = [model(), model()];
    const rejections = deadLetters(transport, { topic, maxBytes: 1 });
    const events = [batch(1), nan, nan, batch(2), nan, batch(3)];
    await lastValueFrom(from(events).pipe(momentum(disturbed, { rejections })));
    from(events.filter((event) => event !== nan))
      .pipe(momentum(calm))
      .subscribe();
    expect(bitsOf(disturbed)).toEqual(bitsOf(calm));
  });
});

it.each<[object, RegExp]>([
  [{}, /deadLetters: topic: expected a value/],
  [{ topic: '' }, /deadLetters: topic: expected a name/],
  [{ topic, maxInFlight: 0 }, /deadLetters: maxInFlight: expected >=1/],
  [{ topic, bound: 1 }, /deadLetters: bound: expected no such option/],
])('refuses %o', (options, message) => {
  expect(() => deadLetters(memoryTransport(), options as { topic: string })).toThrow(message);
});
