import { expect, it, vi } from 'vitest';
import type { FetchAnswer } from '../../../src/sources/kafka/kafka-cluster.ts';
import { withoutGaps } from '../../../src/sources/kafka/whole-fetches.ts';

type Message = FetchAnswer['responses'][number]['partitions'][number]['messages'][number];

/** What is left of a fetch from an offset that brought some others, and what was reported. */
function fetched(from: number, offsets: readonly number[]) {
  const messages = offsets.map((offset) => ({ offset: String(offset) }) as Message);
  const onGap = vi.fn();
  const request = { topics: [{ topic: 't', partitions: [{ partition: 3, fetchOffset: String(from), maxBytes: 1 }] }] };
  const answer = { responses: [{ topicName: 't', partitions: [{ partition: 3, messages }] }] };
  const [found] = withoutGaps(request, answer, onGap).responses[0]!.partitions;
  const gaps = onGap.mock.calls.map(([partition, { key, details }]) => [partition, key, details]);
  return { offsets: found!.messages.map(({ offset }) => Number(offset)), gaps };
}

const gap = (expected: number, got: number | string) => [[3, 'offsetGap', { where: 't/3', expected, got }]];

it.each([
  [5, []],
  [5, [5]],
  [5, [5, 6, 7]],
  [5, [2, 3, 4, 5, 6]],
])('leaves what was fetched from %i as it is: %j', (from, offsets) => {
  expect(fetched(from, offsets)).toEqual({ offsets, gaps: [] });
});

it.each([
  [5, [5, 6, 8], [5, 6]],
  [5, [4, 5, 7, 9], [5]],
])('cuts what was fetched from %i before a gap, which the next fetch begins at: %j', (from, offsets, left) => {
  expect(fetched(from, offsets)).toEqual({ offsets: left, gaps: [] });
});

it.each<[number, number[], number | string]>([
  [5, [6], 6],
  [5, [3, 4, 9, 10], 9],
  [5, [3, 4], 'a later offset'],
])('reports what was fetched from %i and lacks it: %j', (from, offsets, got) => {
  expect(fetched(from, offsets)).toEqual({ offsets: [], gaps: gap(from, got) });
});
