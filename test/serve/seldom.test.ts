import { expect, it, vi } from 'vitest';
import { seldom } from '../../src/serve/seldom.ts';

it('tells how often something has happened, at most once in ten seconds', () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  try {
    const told: number[] = [];
    const happened = seldom((count) => told.push(count));
    for (let i = 0; i < 5; i++) happened();
    expect(told).toEqual([1]);
    vi.advanceTimersByTime(9999);
    happened();
    expect(told).toEqual([1]);
    vi.advanceTimersByTime(1);
    happened();
    expect(told).toEqual([1, 7]);
  } finally {
    vi.useRealTimers();
  }
});
