import { encodeEvent, epochBoundary, gradientBatch, type LogRecord, type NewRecord } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { RxgradError } from '../../src/errors.ts';
import { rejection } from '../../src/events.ts';
import { deadLettersOf, readDeadLetter } from '../../src/sinks/dead-letter.ts';
import { idOf, readRetryMark, retriedRecord, retryMark } from '../../src/sinks/retried-record.ts';

const topic = 'g.dead';
const error = new RxgradError('emptyBatch', { where: 'g/1@7' });
const gradients = encodeEvent(gradientBatch({ gradients: { w: Float32Array.of(1) }, worker: 'tokyo', sequence: 40 }));

/** A record as it stands in a log. */
function inLog({ key = null, value = null, headers = {} }: NewRecord, offset: number): LogRecord {
  return { offset, key: typeof key === 'string' ? Buffer.from(key) : key, value, headers, timestampMs: 5 };
}

/** The letter of a record that was rejected at an offset, at offset 3 of its own topic's partition 2. */
function letterOf(record: NewRecord, offset: number | null, topicId?: string): LogRecord {
  const position = { topic: 'g', partition: 1, offset: offset ?? 0 };
  const delivery = offset === null ? null : { position, source: { done() {} }, record: inLog(record, offset), topicId };
  if (delivery) return inLog(deadLettersOf(rejection(error, delivery))[0]!, 3);
  const headers = { ...record.headers, rxgrad_reason: 'emptyBatch', rxgrad_attempt: '1' };
  return inLog({ ...record, headers }, 3);
}

function retried(letter: LogRecord, ownId: string | null = null): NewRecord {
  return retriedRecord(letter, { topic, topicId: ownId }, { ...readDeadLetter(letter, 2)! });
}

describe('a letter that is sent again', () => {
  it('is its record, with where that first stood and how often it was rejected', () => {
    const record: NewRecord = { ...encodeEvent(epochBoundary(3)), key: 'model' };
    const { key, value, headers } = retried(letterOf(record, 7));
    expect(Buffer.from(key as Uint8Array).toString()).toBe('model');
    expect(Buffer.from(value!)).toEqual(Buffer.from(record.value!));
    expect(headers).toEqual({ ...record.headers, rxgrad_retry_of: 'g/1@7', rxgrad_attempt: '1' });
  });

  it('of gradients comes from a worker of its own, so that a later sequence of the first one does not hide it', () => {
    const { headers } = retried(letterOf(gradients, 7));
    expect(headers).toMatchObject({ ce_source: 'retry:g/1@7:tokyo', ce_id: '0' });
  });

  it('again keeps that worker, its sequence and the first place, and counts attempts', () => {
    const once = retried(letterOf(gradients, 7));
    const twice = retried(letterOf(once, 90));
    expect(twice.headers).toMatchObject({
      ce_source: 'retry:g/1@7:tokyo',
      ce_id: '0',
      rxgrad_retry_of: 'g/1@7',
      rxgrad_attempt: '2',
    });
  });

  it('of a log that was made anew comes from another worker than the one at the same place before', () => {
    const sources = ['a1', 'b2'].map((id) => retried(letterOf(gradients, 7, id)).headers!.ce_source);
    expect(sources).toEqual(['retry:g/1@7#a1:tokyo', 'retry:g/1@7#b2:tokyo']);
    const twice = retried(letterOf(retried(letterOf(gradients, 7, 'a1')), 90, 'b2'));
    expect(twice.headers!.ce_source).toBe('retry:g/1@7#a1:tokyo');
  });

  it('of a worker that calls itself a retry is a worker of its own all the same', () => {
    const record = { ...gradients, headers: { ...gradients.headers, ce_source: 'retry:mine' } };
    expect(retried(letterOf(record, 7)).headers!.ce_source).toBe('retry:g/1@7:retry:mine');
    const { ce_source: _, ...nameless } = gradients.headers!;
    expect(retried(letterOf({ ...gradients, headers: nameless }, 7)).headers!.ce_source).toBe('retry:g/1@7:');
  });

  it('was rejected once where it does not say how often', () => {
    const place = { position: null, partition: 2, offset: 3, topicId: null };
    expect(retriedRecord(inLog(encodeEvent(epochBoundary(3)), 3), { topic, topicId: null }, place).headers).toMatchObject({
      rxgrad_attempt: '1',
    });
  });

  it('is known by its own place where its record stood nowhere', () => {
    const letter = letterOf(gradients, null);
    expect(idOf(readDeadLetter(letter, 2)!)).toBe('#2@3');
    expect(retried(letter).headers).toMatchObject({ rxgrad_retry_of: 'g.dead#2@3', ce_source: 'retry:g.dead#2@3:tokyo' });
    expect(retried(letter, 'a1').headers!.ce_source).toBe('retry:g.dead#2@3#a1:tokyo');
    expect(retried(letterOf(gradients, 7), 'a1').headers!.ce_source).toBe('retry:g/1@7:tokyo');
    expect(idOf(readDeadLetter(letterOf(gradients, 7), 2)!)).toBe('g/1@7');
  });
});

describe('a mark of what was sent again', () => {
  it('is read back, and is no letter', () => {
    const mark = inLog(retryMark({ id: 'g/1@7', topicId: 'a1', as: 'g/0@99' }), 4);
    expect(readRetryMark(mark)).toEqual({ id: 'g/1@7', topicId: 'a1', as: 'g/0@99' });
    expect(String(mark.key)).toBe('g/1@7');
    expect(readDeadLetter(mark, 0)).toBeNull();
  });

  it('is a record that says what was sent again, and is no letter', () => {
    const read = (headers: Record<string, string>) => readRetryMark(inLog({ value: null, headers }, 4));
    expect(read({})).toBeNull();
    expect(read({ rxgrad_reason: 'stale' })).toBeNull();
    expect(read({ rxgrad_retried_as: 'g/0@99' })).toBeNull();
    expect(read({ rxgrad_retried: 'g/1@7' })).toEqual({ id: 'g/1@7', topicId: null, as: '' });
    expect(read({ rxgrad_retried: 'g/1@7', rxgrad_reason: 'stale' })).toBeNull();
  });

  it('is no letter of a record that has such headers itself', () => {
    const letter = letterOf(
      { ...gradients, headers: { ...gradients.headers, ...retryMark({ id: 'g/1@7', topicId: null, as: 'g/0@99' }).headers } },
      8,
    );
    expect(readRetryMark(letter)).toBeNull();
    expect(readRetryMark(letterOf(gradients, 8))).toBeNull();
  });
});
