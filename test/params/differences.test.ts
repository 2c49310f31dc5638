import { expect, it } from 'vitest';
import { Arena } from '../../src/kernels/arena.ts';
import { Changes } from '../../src/params/changes.ts';
import { Differences } from '../../src/params/differences.ts';

const places = [
  { name: 'table', dims: [200, 2], offset: 0, length: 400 },
  { name: 'bias', dims: [3], offset: 1600, length: 3 },
];

/** Follows what is written of a table of 200 rows and a bias. */
function followed() {
  const arena = new Arena();
  const differences = new Differences(arena, places);
  const changes = new Changes(arena, places, () => {});
  const write = (...rows: number[]): void => {
    const address = arena.allocate(4 * rows.length);
    new Int32Array(arena.memory.buffer, address, rows.length).set(rows);
    for (const written of [differences, changes]) written.addRows(0, address, rows.length);
    arena.release(address, 4 * rows.length);
  };
  const listed = (): number[] | 'all' => {
    const { whole, address, count } = differences.of(0);
    return whole ? 'all' : [...new Int32Array(arena.memory.buffer, address, count)];
  };
  return { arena, differences, changes, write, listed, taken: () => changes.take().get(0) };
}

const rowsUpTo = (count: number): number[] => Array.from({ length: count }, (_, row) => row);

it('sides differ in all of everything at first, and in nothing once they are alike', () => {
  const { differences, listed } = followed();
  expect([listed(), differences.of(1).whole]).toEqual(['all', true]);
  differences.clear();
  expect([listed(), differences.of(1)]).toEqual([[], { whole: false, address: 0, count: 0 }]);
  differences.add(1);
  expect([listed(), differences.of(1).whole]).toEqual([[], true]);
});

it('sides differ in the rows that were written since they were alike, in any order and how often', () => {
  const { differences, write, listed } = followed();
  differences.clear();
  write(199, 64);
  write(0, 64);
  expect(listed()).toEqual([199, 64, 0, 64]);
  differences.clear();
  write(7);
  expect(listed()).toEqual([7]);
});

it('sides differ in all of a table beyond a quarter of it, and then whatever rows follow', () => {
  const { differences, write, listed } = followed();
  differences.clear();
  write(...rowsUpTo(49));
  write(50);
  expect(listed()).toHaveLength(50);
  write(51);
  expect(listed()).toBe('all');
  write(52);
  expect(listed()).toBe('all');
  differences.clear();
  write(...rowsUpTo(51));
  expect(listed()).toBe('all');
});

it('the rows that sides differ in have memory of their own', () => {
  const { arena, differences, write, listed } = followed();
  differences.clear();
  write(...rowsUpTo(50));
  expect(differences.of(0).address).toBeGreaterThan(0);
  const beside = arena.allocate(256);
  arena.bytes.fill(0xff, beside, beside + 256);
  expect(listed()).toEqual(rowsUpTo(50));
  differences.clear();
  write(9);
  expect([...arena.bytes.subarray(beside, beside + 256)]).toEqual(Array(256).fill(0xff));
});

it('changes list each row once, in order, wherever it lies in a large table', () => {
  const { write, taken } = followed();
  write(199, 31, 32);
  write(0, 64, 32, 63, 128);
  expect(taken()).toEqual(Int32Array.of(0, 31, 32, 63, 64, 128, 199));
  write(32);
  expect(taken()).toEqual(Int32Array.of(32));
  expect(taken()).toBeUndefined();
});

it('changes are whole beyond a quarter of a table, also where rows follow one that was written whole', () => {
  const { changes, write, taken } = followed();
  write(...rowsUpTo(50));
  expect(taken()).toHaveLength(50);
  write(...rowsUpTo(51));
  expect(taken()).toBeNull();
  changes.add(0);
  write(5);
  expect(taken()).toBeNull();
  write(5);
  expect(taken()).toEqual(Int32Array.of(5));
});
