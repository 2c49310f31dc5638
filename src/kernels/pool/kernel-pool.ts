import { Worker } from 'node:worker_threads';
import { RxgradError } from '../../errors.ts';
import { threadFile } from '../../threads.ts';
import type { Arena } from '../arena.ts';
import { type Kernel, SUM_BLOCK } from '../kernel.ts';
import { type Job, JobQueue, QUEUE_CAPACITY } from './job-queue.ts';

/** Elements of a job: whole blocks of sums and whole cache lines; small enough that threads end about together. */
const CHUNK = 4 * SUM_BLOCK;

/** For how long this thread looks on until others have done the last jobs, before it turns to other things. */
const JOIN_MS = 0.2;

const workerFile = threadFile(import.meta.url, './worker');

/**
 * Threads that run kernels over an arena beside this one. How a parameter is cut into jobs follows from its length alone, and
 * sums are added up block by block in order; so the bits are those of a run in place, for any number of threads.
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

  /** Notes a kernel over elements, or rows, `[begin, length)` of a call: for the next {@link start}. */
  add({ name, byElement }: Pick<Kernel, 'name' | 'byElement'>, call: number, length: number, elementsEach = 1, begin = 0): void {
    const kernel = this.#arena.kernels.indexOf(name);
    const chunk = Math.max(1, byElement ? Math.floor(CHUNK / Math.max(1, elementsEach)) : length);
    for (let at = begin; at < length; at += chunk) {
      this.#jobs.push({ kernel, call, begin: at, end: Math.min(length, at + chunk) });
    }
  }

  /** Hands out what was noted. Nothing that it reads or writes may be touched before it is done. */
  start(): void {
    this.#queue.fill(this.#jobs.splice(0, QUEUE_CAPACITY));
  }

  /** Does jobs on this thread, too, until all that was handed out is done. False where others are still at some. */
  join(): boolean {
    for (;;) {
      this.#queue.takeAll(this.#run);
      if (!this.#queue.isDone(JOIN_MS)) return false;
      if (this.#jobs.length === 0) return true;
      this.start();
    }
  }

  /** Resolves when all that was handed out, or noted since, is done; this thread is free meanwhile. */
  async done(): Promise<void> {
    // A wait alone does not keep the process alive.
    for (const worker of this.#workers) worker.ref();
    try {
      await Promise.race([this.#queue.done(), this.#failed]);
      while (this.#jobs.length > 0) {
        this.start();
        await Promise.race([this.#queue.done(), this.#failed]);
      }
    } finally {
      for (const worker of this.#workers) worker.unref();
    }
  }

  /** As {@link start}, on this thread alone, at once. */
  runHere(): void {
    for (const { kernel, call, begin, end } of this.#jobs) this.#run(kernel, call, begin, end);
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

  readonly #run = (kernel: number, call: number, begin: number, end: number): void => {
    this.#arena.kernels.loops[kernel]!.run(call, begin, end);
  };
}
