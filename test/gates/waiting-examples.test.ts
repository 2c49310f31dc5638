import MersenneTwister from 'mersenne-twister';
import { describe, expect, it } from 'vitest';
import { inRandomOrder, WaitingExamples } from '../../src/gates/waiting-examples.ts';

const message = (labels: number) => ({ feeds: {}, labels });

describe('examples that wait', () => {
  it('come in their order, and know how many came before them', () => {
    const waiting = new WaitingExamples<number>(3);
    for (const labels of [1, 2]) waiting.add(message(labels));
    expect(waiting.take()).toEqual({ examples: message(1), arrival: 0 });
    expect(waiting.arrivals).toBe(2);
    waiting.clear();
    expect(waiting.take()).toBeUndefined();
    waiting.add(message(3));
    expect(waiting.take()).toEqual({ examples: message(3), arrival: 2 });
    expect(waiting.missed).toBe(0);
  });

  it('give way to newer ones above the limit', () => {
    const waiting = new WaitingExamples<number>(2);
    for (const labels of [1, 2, 3, 4, 5]) waiting.add(message(labels));
    expect(waiting.missed).toBe(3);
    expect(waiting.take()!.examples.labels).toBe(4);
  });
});

describe('values in random order', () => {
  const values = Array.from({ length: 50 }, (_, i) => i);
  const ordered = (seed: number): number[] => [...inRandomOrder(values, new MersenneTwister(seed))];

  it('are all there once, in the order of the seed', () => {
    expect(ordered(1).toSorted((a, b) => a - b)).toEqual(values);
    expect(ordered(1)).toEqual(ordered(1));
    expect(ordered(1)).not.toEqual(ordered(2));
    expect(values).toEqual(values.toSorted((a, b) => a - b));
  });

  it('come first as often as one another', () => {
    const random = new MersenneTwister(3);
    const counts = [0, 0, 0, 0];
    for (let draw = 0; draw < 4000; draw++) counts[inRandomOrder([0, 1, 2, 3], random).next().value!]! += 1;
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(120);
  });
});
