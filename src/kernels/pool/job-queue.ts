import type { Arena } from '../arena.ts';
import type { SharedMemory } from '../kernels.ts';

/** A part of a kernel's work: elements `[begin, end)` of what a call describes. */
export interface Job {
  readonly kernel: number;
  readonly call: number;
  readonly begin: number;
  readonly end: number;
}

/** Jobs that one filling holds at most. */
export const QUEUE_CAPACITY = 4096;

// Each word has a cache line of its own: every thread counts there.
const WORDS = 16;
const ROUND = 0;
const NEXT = 1 * WORDS;
const COUNT = 2 * WORDS;
const DONE = 3 * WORDS;
const CLOSED = 4 * WORDS;
const JOBS = 5 * WORDS;
const JOB_WORDS = 4;

/** Bytes of a queue. */
const QUEUE_BYTES = 4 * (JOBS + JOB_WORDS * QUEUE_CAPACITY);

// Above every count: a thread that comes late finds nothing to do while jobs are being written.
const NOTHING = 2 ** 30;

/**
 * Jobs in shared memory, for any number of threads: one fills it and waits without blocking, the others take jobs in turn.
 * Who takes which is left to chance; so jobs must not depend on each other.
 */
export class JobQueue {
  readonly address: number;
  readonly #words: Int32Array;

  constructor(memory: SharedMemory, address: number) {
    this.address = address;
    this.#words = new Int32Array(memory.buffer, address, QUEUE_BYTES / 4);
  }

  static create(arena: Arena): JobQueue {
    const address = arena.allocate(QUEUE_BYTES);
    const queue = new JobQueue(arena.memory, address);
    Atomics.store(queue.#words, NEXT, NOTHING);
    return queue;
  }

  /** Gives the memory back. No thread may be at it any more. */
  release(arena: Arena): void {
    arena.release(this.address, QUEUE_BYTES);
  }

  /** Hands out at most {@link QUEUE_CAPACITY} jobs. What was there before must be {@link done}. */
  fill(jobs: readonly Job[]): void {
    const words = this.#words;
    Atomics.store(words, NEXT, NOTHING);
    for (const [i, { kernel, call, begin, end }] of jobs.entries()) words.set([kernel, call, begin, end], JOBS + JOB_WORDS * i);
    Atomics.store(words, DONE, 0);
    Atomics.store(words, COUNT, jobs.length);
    Atomics.store(words, NEXT, 0);
    this.#wake();
  }

  /** Resolves when every job that was handed out is done. */
  async done(): Promise<void> {
    const count = Atomics.load(this.#words, COUNT);
    for (let done = this.#done; done !== count; done = this.#done) {
      const wait = Atomics.waitAsync(this.#words, DONE, done);
      if (wait.async) await wait.value;
    }
  }

  /** Ends {@link work} on every thread, once what was taken is done. */
  close(): void {
    Atomics.store(this.#words, NEXT, NOTHING);
    Atomics.store(this.#words, CLOSED, 1);
    this.#wake();
  }

  /** Takes jobs and does them until the queue is closed, blocking the thread in between. */
  work(run: (kernel: number, call: number, begin: number, end: number) => void): void {
    const words = this.#words;
    for (let round = 0; Atomics.load(words, CLOSED) === 0; round = Atomics.load(words, ROUND)) {
      this.#takeAll(run);
      Atomics.wait(words, ROUND, round);
    }
  }

  #takeAll(run: (kernel: number, call: number, begin: number, end: number) => void): void {
    const words = this.#words;
    for (let i = Atomics.add(words, NEXT, 1); i < Atomics.load(words, COUNT); i = Atomics.add(words, NEXT, 1)) {
      const at = JOBS + JOB_WORDS * i;
      run(words[at]! >>> 0, words[at + 1]! >>> 0, words[at + 2]!, words[at + 3]!);
      if (Atomics.add(words, DONE, 1) + 1 === Atomics.load(words, COUNT)) Atomics.notify(words, DONE);
    }
  }

  get #done(): number {
    return Atomics.load(this.#words, DONE);
  }

  #wake(): void {
    Atomics.add(this.#words, ROUND, 1);
    Atomics.notify(this.#words, ROUND);
  }
}
