import { encodeEvent, epochBoundary, type GradientBatch, gradientBatch, type LogRecord, type NewRecord } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { RxgradError } from '../../src/errors.ts';
import { type Delivery, type Place, rejection, type TrainingEvent } from '../../src/events.ts';
import { deadLettersOf, originalHeaders, readDeadLetter, sizeOf, textOf } from '../../src/sinks/dead-letter.ts';

const error = new RxgradError('emptyBatch', { where: 'g/0@1' });

function came(own: Partial<LogRecord> = {}): LogRecord {
  return { offset: 1, key: null, value: null, headers: {}, timestampMs: 5, ...own };
}

/** The letters of records that were rejected as one. */
function lettersOf(records: readonly LogRecord[], by = error): NewRecord[] {
  const places = records.map((record): Place => ({ position: { topic: 'g', partition: 2, offset: record.offset }, record }));
  const delivery: Delivery = { ...places.at(-1)!, source: { done() {} }, ...(places.length > 1 ? { parts: places } : {}) };
  return deadLettersOf(rejection(by, delivery, {}, { at: 'scan' }));
}

/** A letter as it stands in its own topic. */
function inLog({ key = null, value = null, headers = {} }: NewRecord): LogRecord {
  return { offset: 8, key: key as Uint8Array | null, value, headers, timestampMs: 99 };
}

const letterOf = (own: Partial<LogRecord> = {}, by = error) => lettersOf([came(own)], by)[0]!;

describe('a dead letter', () => {
  it('reads as it was written', () => {
    const headers = { ce_source: 'tokyo', ce_id: '40', ce_type: 'x' };
    expect(readDeadLetter(inLog(letterOf({ offset: 7, headers })), 3)).toEqual({
      offset: 8,
      partition: 3,
      position: { topic: 'g', partition: 2, offset: 7 },
      topicId: null,
      reason: 'emptyBatch',
      code: 'RXGRAD_EMPTY_BATCH',
      message: error.message,
      at: 'scan',
      attempt: 1,
      timestampMs: 5,
      rejectedMs: 99,
      worker: 'tokyo',
      sequence: '40',
      type: 'x',
    });
  });

  it('reads what is missing of it as nothing, and without a reason is none', () => {
    expect(readDeadLetter(came({ offset: 4, headers: { rxgrad_reason: 'stale' } }), 0)).toEqual({
      offset: 4,
      partition: 0,
      position: null,
      topicId: null,
      reason: 'stale',
      code: '',
      message: '',
      at: '',
      attempt: 0,
      timestampMs: null,
      rejectedMs: 5,
      worker: null,
      sequence: null,
      type: null,
    });
    expect(readDeadLetter(came({ headers: { rxgrad_code: 'x', ce_id: '1' } }), 0)).toBeNull();
  });

  it.each([
    ['12', 12],
    ['9007199254740991', 9007199254740991],
    ['90071992547409910', 0],
    ['', 0],
    ['x1', 0],
    ['1x', 0],
    ['-1', 0],
  ])('reads "%s" as a number as %i', (text, expected) => {
    const read = readDeadLetter(came({ headers: { rxgrad_reason: 'stale', rxgrad_attempt: text, rxgrad_timestamp: text } }), 0)!;
    expect([read.attempt, read.timestampMs]).toEqual([expected, expected]);
  });

  it('is one of each part of a merged batch, with the place and the bytes of that', () => {
    const letters = lettersOf([came({ offset: 3, value: Uint8Array.of(1) }), came({ offset: 5, value: Uint8Array.of(2) })]);
    expect(letters.map((letter) => [letter.headers!.rxgrad_offset, letter.value![0]])).toEqual([
      ['3', 1],
      ['5', 2],
    ]);
  });

  it('counts attempts, from a header in text or bytes', () => {
    for (const attempt of ['4', Buffer.from('4')]) {
      const letter = letterOf({ headers: { rxgrad_attempt: attempt } });
      expect(letter.headers!.rxgrad_attempt).toBe('5');
      expect(textOf(originalHeaders(letter.headers!).rxgrad_attempt)).toBe('4');
    }
  });

  it('says in at most 1024 characters what was wrong', () => {
    const long = Object.assign(new RxgradError('emptyBatch', { where: 'g/0@1' }), { message: 'x'.repeat(1025) });
    expect(letterOf({}, long).headers!.rxgrad_message).toHaveLength(1024);
  });

  it('keeps headers in bytes, and copies those that are a small part of what came with them', () => {
    const fetched = new Uint8Array(1000).fill(7);
    const { headers, key, value } = letterOf({
      key: fetched.subarray(0, 500),
      value: fetched.subarray(0, 499),
      headers: { small: fetched.subarray(1, 4), rxgrad_x: fetched.subarray(0, 600), text: 'as it is' },
    });
    expect((key as Uint8Array).buffer).toBe(fetched.buffer);
    expect(value!.buffer.byteLength).toBe(499);
    expect(headers).toMatchObject({ small: Uint8Array.of(7, 7, 7), text: 'as it is' });
    expect((headers!.rxgrad_original_rxgrad_x as Uint8Array).buffer).toBe(fetched.buffer);
  });

  describe('of an event that was made in process', () => {
    const made = (event: TrainingEvent | null, delivery: Delivery | null = null) =>
      deadLettersOf(rejection(error, delivery, {}, { event: event as GradientBatch }))[0]!;

    it('holds it as it would have been sent', () => {
      const batch = gradientBatch({ gradients: { w: Float32Array.of(1, 2) }, worker: 'w', sequence: 3 });
      const { headers, value } = encodeEvent(batch);
      const letter = made(batch);
      expect(letter).toMatchObject({ key: null, headers });
      expect(Buffer.compare(letter.value!, value!)).toBe(0);
      const places = Object.keys(letter.headers!).filter((name) => /rxgrad_(topic|partition|offset|timestamp)/.test(name));
      expect(places).toEqual([]);
      expect(Buffer.from(made(epochBoundary(4)).value!).toString()).toBe('{"epoch":4}');
    });

    it('is empty where there is none, or no file can hold it', () => {
      expect(made(null)).toMatchObject({ key: null, value: null, headers: { rxgrad_reason: 'emptyBatch' } });
      const dims = Array<number>(17).fill(1);
      expect(made(gradientBatch({ gradients: { w: { dims, data: Float32Array.of(1) } } })).value).toBeNull();
    });

    it('has its position, where it has one, but no time', () => {
      const delivery = { position: { topic: 'g', partition: 2, offset: 6 }, source: { done() {} } };
      const { headers } = made(epochBoundary(4), delivery);
      expect(headers).toMatchObject({ rxgrad_topic: 'g', rxgrad_partition: '2', rxgrad_offset: '6' });
      expect(headers).not.toHaveProperty('rxgrad_timestamp');
    });
  });
});

describe('the headers of a letter', () => {
  const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`h${i}`, `${i}`]));

  it('are those of the original and nine of its own, up to a hundred', () => {
    const headers = { ...many(90), ce_id: '1' };
    const letter = letterOf({ headers });
    expect(Object.keys(letter.headers!)).toHaveLength(100);
    expect(letter.headers).not.toHaveProperty('rxgrad_more_headers');
    expect(originalHeaders(letter.headers!)).toEqual(headers);
  });

  it('are a hundred at most: beyond that, those that rxgrad reads stay, and one holds the others', () => {
    const headers = { ...many(90), ce_id: '1', rxgrad_retry_of: 'g/0@1', raw: Uint8Array.of(0, 255) };
    const letter = letterOf({ headers });
    expect(Object.keys(letter.headers!).length).toBeLessThanOrEqual(100);
    expect(letter.headers).toMatchObject({ ce_id: '1', rxgrad_original_rxgrad_retry_of: 'g/0@1', rxgrad_reason: 'emptyBatch' });
    expect(letter.headers).not.toHaveProperty('h3');
    expect(originalHeaders(letter.headers!)).toEqual({ ...headers, raw: Buffer.from([0, 255]) });
  });

  it('are a hundred at most, also where rxgrad reads all of them', () => {
    const headers = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`ce_${i}`, `${i}`]));
    const letter = letterOf({ headers });
    expect(Object.keys(letter.headers!)).toHaveLength(100);
    expect(originalHeaders(letter.headers!)).toEqual(headers);
  });

  it('that others have called as rxgrad calls its own are none of the original', () => {
    for (const text of ['no JSON', Buffer.from('[1')]) {
      expect(originalHeaders({ rxgrad_more_headers: text, a: 'b', rxgrad_reason: 'x' })).toEqual({ a: 'b' });
    }
  });

  it('are text, of whatever bytes they came as', () => {
    const bytes = Buffer.from('..text..').subarray(2, 6);
    expect([textOf(undefined), textOf('text'), textOf(bytes), textOf('')]).toEqual([null, 'text', 'text', '']);
  });
});

describe('the size of a letter', () => {
  it('is that of its key, value and headers, and tells what is its own', () => {
    expect(sizeOf({ value: null })).toEqual({ bytes: 0, added: 0 });
    expect(sizeOf({ key: 'abc', value: new Uint8Array(10) })).toEqual({ bytes: 13, added: 0 });
    expect(sizeOf({ key: null, value: null, headers: { ab: 'cde', f: new Uint8Array(4) } })).toEqual({ bytes: 10, added: 0 });
    const own = { rxgrad_at: 'scan', rxgrad_original_rxgrad_at: 'sgd', a: '1' };
    expect(sizeOf({ value: null, headers: own })).toEqual({ bytes: 13 + 28 + 2, added: 13 + 16 });
  });
});
