import { Tensor } from 'onnxruntime-node';
import { expect, it, onTestFinished, vi } from 'vitest';
import { LoadWatch } from '../../../src/inference/choosing/load-watch.ts';

const rows = (count: number) => ({ x: new Tensor('float32', new Float32Array(count * 2), [count, 2]) });

it('tells the median rows of late', () => {
  const watch = new LoadWatch();
  for (let i = 0; i < 100; i++) watch.note(rows(1), 0);
  for (let i = 0; i < 31; i++) watch.note(rows(8), 0);
  expect(watch.load()).toMatchObject({ runs: 131, batch: 1 });
  for (let i = 0; i < 9; i++) watch.note(rows(8), 0);
  expect(watch.load()).toMatchObject({ runs: 140, batch: 8 });
});

it('tells how often versions change', () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const watch = new LoadWatch();
  watch.note(rows(1), 4);
  expect(watch.load()).toMatchObject({ swapEveryMs: Infinity, versionsPerMs: 0 });
  watch.noteVersion(14);
  watch.noteVersion(24);
  vi.advanceTimersByTime(1000);
  expect(watch.load()).toMatchObject({ swapEveryMs: 500, versionsPerMs: 0.02 });
});

it('keeps copies of a few inputs', () => {
  const watch = new LoadWatch();
  const feeds = rows(1);
  for (let i = 0; i < 1000; i++) watch.note(feeds, 0);
  (feeds.x.data as Float32Array).fill(7);
  expect(watch.samples).toHaveLength(4);
  expect(watch.samples.every(({ x }) => (x!.data as Float32Array).every((value) => value === 0))).toBe(true);
});
