import { describe, expect, it } from 'vitest';
import { CheckpointIndex, encodedHead, keysOf } from '../../src/checkpoints/kafka-checkpoint-index.ts';
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

  it('knows the parts of files by their ids, as earlier versions have written them, too', () => {
    const chunk = (key: string, offset: number, id?: string | Uint8Array) =>
      record(key, 'x', { offset, headers: id === undefined ? {} : { id } });
    const index = indexOf(
      chunk('m/3/0', 5, 'a'),
      chunk('m/3/1', 6, 'a'),
      chunk('m/4/0', 8, Buffer.from('b')),
      { ...chunk('m/4/0', 9, 'b'), value: null },
      chunk('m/4/c/0', 10),
      chunk('m/4/c/1', 11),
      chunk('m/4/d/0', 12),
      chunk('other/6/0', 13, 'a'),
    );
    expect(index.partsOf('a')).toEqual([
      { key: 'm/3/0', version: 3, id: 'a', number: 0, offset: 5 },
      { key: 'm/3/1', version: 3, id: 'a', number: 1, offset: 6 },
    ]);
    expect(index.partsOf('b')).toEqual([]);
    expect(index.partsOf('c').map(({ key }) => key)).toEqual(['m/4/c/0', 'm/4/c/1']);
    // A part that was written over is the new one's.
    index.note(chunk('m/3/1', 14, 'e'));
    expect([index.partsOf('a').length, index.partsOf('e')]).toMatchObject([1, [{ number: 1 }]]);
  });

  it('takes a version away where it was not pinned before, and then no pin keeps it', () => {
    const index = indexOf(record('m/3/head', head), record('m/4/head', head), record('m/3/pin', 'pinned'));
    for (const version of [3, 4, 5]) index.note(record(`m/${version}/removed`, 'unless pinned'));
    index.note(record('m/4/pin', 'pinned'));
    expect([[...index.heads.keys()], [...index.removed], [...index.marked]]).toEqual([[3], [[4, 'a']], [3, 4, 5]]);
    index.note(record('m/3/pin', null));
    expect([...index.heads.keys()]).toEqual([3]);
    for (const version of [3, 4, 5]) index.note(record(`m/${version}/removed`, null));
    expect([[...index.heads.keys()], [...index.removed], [...index.marked]]).toEqual([[3], [[4, 'a']], []]);
    // Written anew, it is there.
    index.note(record('m/4/head', { ...head, id: 'b' }));
    expect([[...index.heads.keys()], [...index.removed]]).toEqual([[3, 4], []]);
  });

  describe('tells what is left over', () => {
    const part = (version: number, id: string, number: number, offset: number) =>
      record(keysOf('m').part(version, id, number), 'x', { offset });
    const whole = (version: number, id: string, offset: number) => [
      part(version, id, 0, offset),
      part(version, id, 1, offset + 1),
      record(`m/${version}/head`, { ...head, id }, { offset: offset + 2 }),
    ];

    it('of files without a head that end before a file that is whole, and are of no later version', () => {
      const index = indexOf(
        ...whole(2, 'two', 0),
        part(3, 'died', 0, 3),
        part(9, 'later', 0, 4),
        part(4, 'under way', 0, 5),
        ...whole(5, 'five', 6),
        part(4, 'under way', 1, 9),
        part(5, 'again', 0, 10),
      );
      expect(index.leftovers(5, 6)).toEqual(['m/3/died/0']);
      expect(index.leftovers(2, 0)).toEqual([]);
      expect(index.leftovers(5, 11)).toEqual(['m/3/died/0', 'm/4/under way/0', 'm/4/under way/1', 'm/5/again/0']);
    });

    it('of the file that was written over, in the layout of earlier versions, too', () => {
      const old = (number: number, offset: number) => record(`m/5/${number}`, 'x', { offset, headers: { id: 'old' } });
      const index = indexOf(old(0, 0), old(1, 1), record('m/5/head', { ...head, id: 'old' }, { offset: 2 }));
      expect(index.leftovers(9, 9)).toEqual([]);
      for (const one of whole(5, 'new', 3)) index.note(one);
      expect(index.leftovers(5, 3)).toEqual(['m/5/0', 'm/5/1']);
    });

    it('of versions that were taken away, and the marks that came to nothing', () => {
      const index = indexOf(...whole(1, 'one', 0), ...whole(2, 'two', 3), ...whole(3, 'three', 6), record('m/3/pin', 'pinned'));
      for (const version of [1, 2, 3, 7]) index.note(record(`m/${version}/removed`, 'x'));
      index.note(record('m/2/pin', 'pinned'));
      // The second one was pinned too late: whoever did so takes the pin back.
      expect(index.leftovers(9, 0)).toEqual(['m/1/head', 'm/1/one/0', 'm/1/one/1', 'm/1/removed', 'm/3/removed', 'm/7/removed']);
      index.note(record('m/2/pin', null));
      expect(index.leftovers(9, 0)).toEqual(expect.arrayContaining(['m/2/head', 'm/2/two/0', 'm/2/two/1', 'm/2/removed']));
    });
  });

  it.each(['m/3/heads', 'm/3/head/more', 'm/x/head', 'm/3', '/3/head', 'm/3/', 'm/3/-1', 'n/3/head', 'mm/3/head'])(
    'leaves %s alone',
    (key) => {
      const index = indexOf(record(key, head, { headers: { id: 'x' } }));
      expect([index.heads.size, index.pins.size, index.partsOf('x').length, index.abandoned.size]).toEqual([0, 0, 0, 0]);
      expect(index.partOf(record(key, head))).toBeNull();
    },
  );

  it('leaves records without a key alone', () => {
    expect(indexOf(record(null, head)).heads.size).toBe(0);
  });

  it('tells which part of which version a record is', () => {
    const index = indexOf();
    expect(index.partOf(record('m/12/id/34', 'x'))).toMatchObject({ version: 12, id: 'id', number: 34 });
    expect(index.partOf(record('m/12/34', 'x', { headers: { id: 'old' } }))).toMatchObject({
      version: 12,
      id: 'old',
      number: 34,
    });
    expect(index.partOf(record('m/12/34', 'x'))).toMatchObject({ id: '' });
    for (const none of [record('m/12/head', 'x'), record('n/12/34', 'x'), record('m/12/id/34', null), record(null, 'x')]) {
      expect(index.partOf(none)).toBeNull();
    }
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
    expect([index.heads.size, index.pins.size, index.partsOf('x').length]).toEqual([0, 0, 0]);
  });
});
