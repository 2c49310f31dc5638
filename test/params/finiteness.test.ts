import { expect, it } from 'vitest';
import { Finiteness } from '../../src/params/finiteness.ts';

/** What is noted, one after the other: the parameter, whether what was written is finite, and whether it was all of it. */
function allAfter(...notes: [index: number, finite: boolean, whole: boolean][]): boolean {
  const finiteness = new Finiteness(2);
  for (const [index, finite, whole] of notes) finiteness.note(index, finite, whole);
  return finiteness.all;
}

it('weights are finite at first, and stay so with what is', () => {
  expect(allAfter()).toBe(true);
  expect(allAfter([0, true, true], [1, true, false])).toBe(true);
});

it('a part that is not finite is enough, and a finite part beside it mends nothing', () => {
  expect(allAfter([0, false, false])).toBe(false);
  expect(allAfter([0, false, true], [0, true, false])).toBe(false);
});

it('all of it written anew mends a parameter, and no other', () => {
  expect(allAfter([0, false, false], [0, true, true])).toBe(true);
  expect(allAfter([0, false, true], [1, true, true])).toBe(false);
});

it('each parameter counts once, however often it is found not to be finite', () => {
  expect(allAfter([0, false, true], [0, false, false], [0, true, true])).toBe(true);
  expect(allAfter([0, false, true], [1, false, true], [0, true, true])).toBe(false);
  expect(allAfter([0, false, true], [1, false, true], [0, true, true], [1, true, true])).toBe(true);
});
