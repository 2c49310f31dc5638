import { describe, expect, it } from 'vitest';
import { CheckpointIndex, encodedHead, textOf } from '../../src/checkpoints/kafka-checkpoint-index.ts';
import type { LogRecord } from '../../src/sources/transport.ts';

const head = { id: 'a', bytes: 10, chunks: 2 };

function record(key: string | null, value: unknown, own: Partial<LogRecord> = {}): LogRecord {
  const bytes = value === null ? null : Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));
  return { offset: 0, key: key === null ? null : Buffer.from(key), value: bytes, headers: {}, timestampMs: 77, ...own };
}

function indexOf(...records: readonly LogRecord[]): CheckpointIndex {
  const index = new CheckpointIndex('m');
  for (const one of records) index.note(one);
  return index;
}

describe('the index of a topic of checkpoints', () => {
  it('holds the last head of each version, until that is taken away', () => {
    const later = { ...head, bytes: 11 };
    const index = indexOf(record('m/3/head', head), record('m/7/head', head), record('m/3/head', later));
    expect([...index.heads.values()]).toEqual([
      { version: 3, savedAtMs: 77, ...later },
      { version: 7, savedAtMs: 77, ...head },
    ]);
    index.note(record('m/3/head', null));
    expect([...index.heads.keys()]).toEqual([7]);
  });

  it('reads a head as it was written', () => {
    const index = indexOf({ ...record('m/3/head', null), value: encodedHead({ ...head, version: 3 } as typeof head) });
    expect(index.heads.get(3)).toEqual({ version: 3, savedAtMs: 77, ...head });
  });

  it.each<[string, unknown]>([
    ['no JSON', '{'],
    ['a number', 5],
    ['without an id', { bytes: 1, chunks: 1 }],
    ['of half a record', { ...head, chunks: 0.5 }],
    ['of no bytes', { ...head, bytes: 'none' }],
  ])('takes no head that is %s, and the one before is none any more', (_, value) => {
    expect(indexOf(record('m/3/head', head), record('m/3/head', value)).heads.size).toBe(0);
  });

  it('knows pins, and what was pinned once', () => {
    const index = indexOf(record('m/3/pin', 'pinned'), record('m/4/pin', 'pinned'), record('m/3/pin', null));
    expect([...index.pins]).toEqual([4]);
  });

  it('knows where files begin, by their first records', () => {
    const chunk = (key: string, offset: number, id?: string | Uint8Array) =>
      record(key, 'x', { offset, headers: id === undefined ? {} : { id } });
    const index = indexOf(
      chunk('m/3/0', 5, 'a'),
      chunk('m/3/1', 6, 'a'),
      chunk('m/4/0', 8, Buffer.from('b')),
      { ...chunk('m/5/0', 9, 'c'), value: null },
      chunk('other/6/0', 10, 'd'),
    );
    expect([...index.firsts]).toEqual([
      ['a', 5],
      ['b', 8],
    ]);
  });

  it.each(['m/3/heads', 'm/3/head/more', 'm/x/head', 'm/3', '/3/head', 'm/3/', 'm/3/-1', 'n/3/head', 'mm/3/head'])(
    'leaves %s alone',
    (key) => {
      const index = indexOf(record(key, head, { headers: { id: 'x' } }));
      expect([index.heads.size, index.pins.size, index.firsts.size, index.abandoned.size]).toEqual([0, 0, 0, 0]);
      expect(index.partOf(record(key, head))).toBeNull();
    },
  );

  it('leaves records without a key alone', () => {
    expect(indexOf(record(null, head)).heads.size).toBe(0);
  });

  it('tells which part of which version a record is', () => {
    const index = indexOf();
    expect(index.partOf(record('m/12/34', 'x'))).toMatchObject({ version: 12, name: '34' });
    expect(index.partOf(record('m/12/head', 'x'))).toMatchObject({ version: 12, name: 'head' });
    expect(index.partOf(record('n/12/34', 'x'))).toBeNull();
  });

  it('lists courses that were set aside by their number, and no other models', () => {
    const index = indexOf(
      record('m~abandoned-2/7/head', head),
      record('m~abandoned-2/8/head', head),
      record('m~abandoned-2/8/head', null),
      record('m~abandoned-2/9/0', 'x', { headers: { id: 'x' } }),
      record('m~abandoned-2/7/pin', 'pinned'),
      record('m~abandoned-10/1/head', head),
      record('m~abandoned-/1/head', head),
      record('m~abandoned-x/1/head', head),
      record('m~abandoned-1.5/1/head', head),
      record('m~abandoned-01/1/head', head),
      record('n~abandoned-4/1/head', head),
    );
    expect(index.courseName(2)).toBe('m~abandoned-2');
    expect([...index.abandoned].map(([number, course]) => [number, ...course.values()])).toEqual([
      [2, { version: 7, savedAtMs: 77, ...head }],
      [10, { version: 1, savedAtMs: 77, ...head }],
    ]);
    expect([index.heads.size, index.pins.size, index.firsts.size]).toEqual([0, 0, 0]);
  });

  it('reads headers as text, whatever they are', () => {
    const headers = { a: 'text', b: Buffer.from('bytes') };
    expect(['a', 'b', 'c'].map((name) => textOf(record('k', 'x', { headers }), name))).toEqual(['text', 'bytes', '']);
  });
});
