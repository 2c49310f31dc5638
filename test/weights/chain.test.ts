import { describe, expect, it } from 'vitest';
import { Arena } from '../../src/kernels/arena.ts';
import { Chain } from '../../src/weights/chain.ts';
import type { Piece } from '../../src/weights/cut.ts';
import { copyPieces } from '../../src/weights/weights-file.ts';
import type { WeightsFacts } from '../../src/weights/weights-header.ts';
import { snapshotFacts } from './snapshot-facts.ts';

const arena = new Arena();
const weights = arena.allocate(4096);

/** A file of pieces: `w` has 4 rows of 2, `b` 3 elements. */
function fileOf(...pieces: { name: 'w' | 'b'; from?: number; length?: number; rows?: number[]; dims?: number[] }[]): Uint8Array {
  const whole = { w: [4, 2], b: [3] };
  return copyPieces(
    arena,
    weights,
    pieces.map(({ name, from = 0, length, rows, dims = whole[name] }): Piece => {
      const size = dims.reduce((product, dim) => product * dim, 1);
      const place = { name, dims, offset: 0, length: size };
      return { place, from, length: rows ? 2 * rows.length : (length ?? size), rows: rows ? Int32Array.from(rows) : null };
    }),
    'F32',
    null,
  )();
}

const snapshot = fileOf({ name: 'w' }, { name: 'b' });
const delta = fileOf({ name: 'w', rows: [1, 3] });

function chainOf(maxBytes = 1 << 20) {
  const chain = new Chain(maxBytes);
  let offset = 0;
  const add = (facts: Partial<WeightsFacts> & { sequence: number }, value = facts.kind === 'delta' ? delta : snapshot) => {
    const position = { topic: 'w', partition: 0, offset: offset++ };
    return chain.add(snapshotFacts(facts), value, position)?.message ?? null;
  };
  const follow = (sequence: number, value?: Uint8Array, more: object = {}) =>
    add({ sequence, kind: 'delta', base: sequence - 1, ...more }, value);
  return { chain, add, follow, versions: () => chain.queue.map(({ facts }) => facts.version) };
}

describe('a chain of publications', () => {
  it('is a snapshot and what follows without a gap', () => {
    const { chain, add, follow, versions } = chainOf();
    expect([chain.isBroken, chain.bytes, versions()]).toEqual([false, 0, []]);
    expect([add({ sequence: 5 }), follow(6), follow(7), versions()]).toEqual([null, null, null, [5, 6, 7]]);
    expect(chain.queue.map(({ position: { offset } }) => offset)).toEqual([0, 1, 2]);
    expect(chain.isBroken).toBe(false);
    // What was seen already is of no use, and no fault.
    expect([follow(7), follow(6), add({ sequence: 5 }), versions()]).toEqual([null, null, null, [5, 6, 7]]);
  });

  it('says once that something is missing, and goes on with the next snapshot', () => {
    const { chain, add, follow, versions } = chainOf();
    add({ sequence: 5 });
    expect(follow(7)).toMatch(/^w\/0@1: expected changes since publication 5 of shard 0, got those since 6/);
    expect(chain.isBroken).toBe(true);
    expect([follow(7), follow(8), versions()]).toEqual([null, null, [5]]);
    expect([add({ sequence: 9 }), follow(10), chain.isBroken, versions()]).toEqual([null, null, false, [5, 9, 10]]);
  });

  it('waits for a snapshot where it begins with changes', () => {
    const { chain, add, follow, versions } = chainOf();
    expect([follow(3), follow(4), versions(), chain.isBroken]).toEqual([null, null, [], true]);
    expect([add({ sequence: 5 }), chain.isBroken, versions()]).toEqual([null, false, [5]]);
  });

  it('puts parts together in their order, each once, and leaves out those of a publication that never came whole', () => {
    const { chain, add, versions } = chainOf();
    const [first, second] = [fileOf({ name: 'w' }), fileOf({ name: 'b' })];
    expect([add({ sequence: 1, part: 1, parts: 2 }, second), versions()]).toEqual([null, []]);
    const held = chain.bytes;
    expect(held).toBeGreaterThan(12);
    expect([add({ sequence: 1, part: 1, parts: 2 }, second), chain.bytes]).toEqual([null, held]);
    expect([add({ sequence: 1, part: 0, parts: 2 }, first), versions()]).toEqual([null, [1]]);
    expect(chain.queue[0]!.files.flatMap(({ pieces }) => pieces.map(({ name }) => name))).toEqual(['w', 'b']);
    expect(chain.bytes).toBeGreaterThan(held);

    expect(add({ sequence: 2, part: 0, parts: 2 }, first)).toBeNull();
    expect([add({ sequence: 3, part: 0, parts: 2 }, first), add({ sequence: 2, part: 1, parts: 2 }, second)]).toEqual([
      null,
      null,
    ]);
    expect(versions()).toEqual([1]);
    expect([add({ sequence: 3, part: 1, parts: 2 }, second), versions()]).toEqual([null, [1, 3]]);
  });

  it('breaks where a part comes to nothing, unless that was seen', () => {
    const { chain, add, follow, versions } = chainOf();
    add({ sequence: 5 });
    const nothing = Buffer.from('nothing');
    expect(follow(5, nothing)).toBeNull();
    expect(follow(6, nothing)).toMatch(/^w\/0@2: expected a safetensors file/);
    expect([chain.isBroken, follow(7), versions()]).toEqual([true, null, [5]]);
    expect(add({ sequence: 8 }, nothing)).toMatch(/a safetensors file/);
    add({ sequence: 9 });
    const error = { message: 'damaged' } as never;
    expect([chain.refuse(error, 9), chain.isBroken]).toEqual([null, false]);
    expect([chain.refuse(error, 10), chain.isBroken, follow(11)]).toEqual([error, true, null]);
  });

  it('lets go of what was applied, and is as large as what it holds', () => {
    const { chain, add, follow, versions } = chainOf();
    add({ sequence: 1 });
    const one = chain.bytes;
    follow(2);
    const two = chain.bytes;
    follow(3);
    expect(chain.bytes - two).toBe(two - one);
    chain.dropUpTo(1);
    expect([versions(), chain.bytes]).toEqual([[2, 3], 2 * (two - one)]);
    chain.dropUpTo(3);
    expect([versions(), chain.bytes]).toEqual([[], 0]);
    expect([follow(4), versions()]).toEqual([null, [4]]);
  });

  it('is shortened to its newest snapshot, and without one before that to nothing', () => {
    const { chain, add, follow, versions } = chainOf();
    add({ sequence: 1 });
    follow(2);
    add({ sequence: 3 });
    follow(4);
    expect([chain.shorten(), versions()]).toEqual([true, [3, 4]]);
    expect([chain.shorten(), versions(), chain.isBroken]).toEqual([false, [], true]);
    expect([follow(5), add({ sequence: 6 }), versions()]).toEqual([null, null, [6]]);
  });
});

describe('a chain follows a course of training', () => {
  const of = (course?: string) => ({ course, sequence: 1 }) as WeightsFacts;

  it('the first that it hears of, and none beside it, until it is left', () => {
    const { chain, add, follow, versions } = chainOf();
    expect([chain.course, chain.follows(of()), chain.course]).toEqual([null, true, null]);
    expect([chain.follows(of('a')), chain.follows(of('b')), chain.follows(of()), chain.course]).toEqual([true, false, true, 'a']);
    add({ sequence: 5 });
    chain.leave();
    expect([versions(), chain.course, chain.isBroken]).toEqual([[], null, false]);
    expect([chain.follows(of('a')), chain.follows(of('b')), chain.course]).toEqual([false, true, 'b']);
    // Its numbers begin anew.
    expect([add({ sequence: 2 }), follow(3), versions()]).toEqual([null, null, [2, 3]]);
  });

  it('which one before it followed', () => {
    const { chain } = chainOf();
    chain.follow('a');
    expect([chain.follows(of('b')), chain.follows(of('a'))]).toEqual([false, true]);
  });
});

describe('a publication', () => {
  const refused = (value: Uint8Array, maxBytes?: number) => chainOf(maxBytes).add({ sequence: 1 }, value);
  const refusedDelta = (value: Uint8Array, ...before: [number, Uint8Array][]) => {
    const { add, follow } = chainOf();
    add({ sequence: 1 });
    for (const [sequence, each] of before) expect(follow(sequence, each)).toBeNull();
    return follow(2 + before.length, value);
  };

  it('that is a snapshot has each element once, of one shape, and no rows', () => {
    expect(refused(fileOf({ name: 'w', from: 0, length: 5 }, { name: 'b' }))).toMatch(
      /all 8 elements of "w" once in a snapshot, got 1 pieces/,
    );
    expect(refused(fileOf({ name: 'w', rows: [0, 1, 2, 3] }, { name: 'b' }))).toMatch(/all 0 elements of "w"/);
    expect(refused(fileOf({ name: 'w' }, { name: 'b' }))).toBeNull();
    expect(refused(fileOf({ name: 'w' }, { name: 'b' }), 44)).toBeNull();
    expect(refused(fileOf({ name: 'w' }, { name: 'b' }), 43)).toMatch(/weights of at most 43 bytes, got more/);
  });

  it('that is a snapshot may be cut in any way that leaves no gap', () => {
    const partsOf = (...files: Uint8Array[]) => {
      const { add } = chainOf();
      return files.map((file, part) => add({ sequence: 1, part, parts: files.length }, file)).at(-1);
    };
    const range = (from: number, length: number, dims?: number[]) =>
      fileOf({ name: 'w', from, length, ...(dims ? { dims } : {}) });
    expect(partsOf(range(5, 3), range(0, 5))).toBeNull();
    expect(partsOf(range(4, 4), range(0, 5))).toMatch(/all 8 elements/);
    expect(partsOf(range(0, 4), range(5, 3))).toMatch(/all 8 elements/);
    expect(partsOf(range(0, 5), range(4, 3))).toMatch(/all 8 elements/);
    expect(partsOf(range(0, 5), range(5, 3, [2, 4]))).toMatch(/all 8 elements/);
  });

  it('that follows has parts of what the snapshot has, in its shapes', () => {
    expect(refusedDelta(fileOf({ name: 'w', rows: [0, 3] }, { name: 'b' }))).toBeNull();
    expect(refusedDelta(fileOf({ name: 'w', from: 2, length: 3 }))).toBeNull();
    expect(refusedDelta(fileOf({ name: 'w', dims: [2, 4] }))).toMatch(/"w" with dims \[4,2\], got \[2,4\]/);
    expect(refusedDelta(fileOf({ name: 'b', dims: [3, 1] }))).toMatch(/"b" with dims \[3\], got \[3,1\]/);
    expect(refusedDelta(fileOf({ name: 'w', rows: [2], dims: [4, 2] }), [2, delta], [3, delta])).toBeNull();
  });

  it('that follows has rows that are there, rising', () => {
    for (const rows of [[4], [-1], [1, 1], [2, 1], [0, 4]]) {
      expect(refusedDelta(fileOf({ name: 'w', rows }))).toMatch(/rising row numbers of "w" from 0 to 3, got others/);
    }
    for (const rows of [[0], [3], [0, 1, 2, 3], []]) expect(refusedDelta(fileOf({ name: 'w', rows }))).toBeNull();
  });

  it('that follows has each element once', () => {
    const { add } = chainOf();
    add({ sequence: 1 });
    const part = (at: number, from: number) =>
      add({ sequence: 2, kind: 'delta', base: 1, part: at, parts: 2 }, fileOf({ name: 'w', from, length: 3 }));
    expect([part(0, 0), part(1, 2)]).toEqual([null, expect.stringMatching(/each element of "w" once, got some twice/)]);
  });
});
