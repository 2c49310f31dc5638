import { Worker } from 'node:worker_threads';
import { expect, it, onTestFinished, vi } from 'vitest';
import { Arena } from '../../../src/kernels/arena.ts';
import { JobQueue } from '../../../src/kernels/pool/job-queue.ts';

// More threads than cores, and rounds so short that many are interrupted in the middle of one and go on in another. A round that waits
// for a thread takes as long as the machine lets that thread wait: their number is one that a busy machine is through with, too.
const THREADS = 8;
const ROUNDS = 6000;

it('has every job done once, by whoever is quickest', async (t) => {
  const arena = new Arena();
  const queue = JobQueue.create(arena);
  const counts = arena.allocate(4 * 64);
  const done = new Int32Array(arena.memory.buffer, counts, 64);
  const workerData = { memory: arena.memory, queue: queue.address, counts };
  const workers = Array.from({ length: THREADS }, () => {
    return new Worker(new URL('./job-queue.worker.ts', import.meta.url), { workerData });
  });
  t.onTestFinished(() => queue.close());
  const wrong: string[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const count = 1 + ((round * 7) % 60);
    done.fill(0);
    queue.fill(Array.from({ length: count }, (_, begin) => ({ kernel: 0, call: 0, begin, end: begin + 1 })));
    // Every third round is left to the others.
    if (round % 3 !== 0) queue.takeAll((_kernel, _call, begin) => Atomics.add(done, begin, 1));
    if (!queue.isDone(1)) await queue.done();
    const bad = done.findIndex((times, i) => times !== (i < count ? 1 : 0));
    if (bad !== -1) wrong.push(`job ${bad} of ${count} in round ${round}: ${done[bad]} times`);
  }
  expect(wrong).toEqual([]);
  queue.close();
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve))));
});

it.each([2, 3])('gives no job to a thread that was interrupted before look %i whether there are any', (when) => {
  const queue = JobQueue.create(new Arena());
  const jobs = (count: number) => Array.from({ length: count }, (_, begin) => ({ kernel: 0, call: 0, begin, end: 0 }));
  const seen: number[] = [];
  queue.fill(jobs(1));
  const { load } = Atomics;
  let looks = 0;
  const spy = vi.spyOn(Atomics, 'load').mockImplementation((words, index) => {
    // This look finds the queue filled anew: the thread has a number of the round before.
    looks += 1;
    if (looks === when) {
      spy.mockRestore();
      queue.fill(jobs(5));
    }
    return load(words as unknown as Int32Array, index) as never;
  });
  onTestFinished(() => spy.mockRestore());
  for (let i = 0; i < 3; i++) queue.takeAll((_kernel, _call, begin) => seen.push(begin));
  expect(seen).toEqual([0, 0, 1, 2, 3, 4]);
});
