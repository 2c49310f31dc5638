import { Worker } from 'node:worker_threads';
import { RxgradError } from '../../errors.ts';
import type { Arena } from '../arena.ts';
import { type Kernel, SUM_BLOCK } from '../kernel.ts';
import { type Job, JobQueue, QUEUE_CAPACITY } from './job-queue.ts';

/** Elements of a job: whole blocks of sums and whole cache lines; small enough that threads end about together. */
const CHUNK = 8 * SUM_BLOCK;

// As this file: TypeScript from the sources, JavaScript from what is built.
const workerFile = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url);

/**
 * Threads that run kernels over an arena while this thread goes on with other things. How a parameter is cut into jobs
 * follows from its length alone, and sums are added up block by block in order; so the bits are those of a run in place, for
 * any number of threads.
 */
export class KernelPool {
  readonly #arena: Arena;
  readonly #queue: JobQueue;
  readonly #workers: readonly Worker[];
  readonly #failed: Promise<never>;
  #jobs: Job[] = [];

  constructor(arena: Arena, threads: number) {
    this.#arena = arena;
    this.#queue = JobQueue.create(arena);
    const workerData = { memory: arena.memory, queue: this.#queue.address };
    this.#workers = Array.from({ length: threads }, () => new Worker(workerFile, { workerData, name: 'rxgrad kernels' }));
    this.#failed = new Promise((_, reject) => {
      for (const worker of this.#workers) {
        worker.on('error', (cause) => reject(new RxgradError('kernelThreadFailed', { problem: cause.message }, { cause })));
        worker.unref();
      }
    });
    this.#failed.catch(() => {});
  }

  /** Notes a kernel over a whole call (elements, or rows of a width), for the next {@link run}. */
  add({ name, byElement }: Pick<Kernel, 'name' | 'byElement'>, call: number, length: number, width = 1): void {
    const kernel = this.#arena.kernels.indexOf(name);
    const chunk = Math.max(1, byElement ? Math.floor(CHUNK / Math.max(1, width)) : length);
    for (let begin = 0; begin < length; begin += chunk) {
      this.#jobs.push({ kernel, call, begin, end: Math.min(length, begin + chunk) });
    }
  }

  /** Runs what was noted. Nothing that it reads or writes may be touched before it resolves. */
  async run(): Promise<void> {
    const jobs = this.#jobs;
    this.#jobs = [];
    // A wait alone does not keep the process alive.
    for (const worker of this.#workers) worker.ref();
    try {
      for (let i = 0; i < jobs.length; i += QUEUE_CAPACITY) {
        this.#queue.fill(jobs.slice(i, i + QUEUE_CAPACITY));
        await Promise.race([this.#queue.done(), this.#failed]);
      }
    } finally {
      for (const worker of this.#workers) worker.unref();
    }
  }

  /** As {@link run}, on this thread, at once. */
  runHere(): void {
    for (const { kernel, call, begin, end } of this.#jobs) this.#arena.kernels.loops[kernel]!.run(call, begin, end);
    this.#jobs = [];
  }

  /** Ends the threads. Nothing may be running. */
  async close(): Promise<void> {
    const ended = this.#workers.map((worker) => {
      worker.ref();
      return new Promise((resolve) => worker.once('exit', resolve));
    });
    this.#queue.close();
    await Promise.all(ended);
    this.#queue.release(this.#arena);
  }
}
