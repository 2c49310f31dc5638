import { wokenAt } from '../../threads.ts';
import type { Arena } from '../arena.ts';
import type { SharedMemory } from '../kernels.ts';

/** A part of a kernel's work: elements `[begin, end)` of what a call describes. */
export interface Job {
  readonly kernel: number;
  readonly call: number;
  readonly begin: number;
  readonly end: number;
}

type Run = (kernel: number, call: number, begin: number, end: number) => void;

/** Jobs that one filling holds at most. */
export const QUEUE_CAPACITY = 4096;

// Each word has a cache line of its own: every thread counts there.
const WORDS = 16;
const ROUND = 0;
const TICKET = 1 * WORDS;
const OPEN = 2 * WORDS;
const DONE = 3 * WORDS;
const SLEEPING = 4 * WORDS;
const CLOSED = 5 * WORDS;
const JOBS = 6 * WORDS;
const JOB_WORDS = 4;

/** Bytes of a queue. */
const QUEUE_BYTES = 4 * (JOBS + JOB_WORDS * QUEUE_CAPACITY);

// A ticket holds the round that it is of, and a number: those who find nothing to do take some beyond the last job.
const NUMBER_BITS = 14;
const NUMBERS = 2 ** NUMBER_BITS - 1;

/** For how long a thread that found nothing to do looks on before it sleeps: as long as a megabyte takes to be copied. */
const SPIN_MS = 0.2;

/**
 * Jobs in shared memory, for any number of threads: one fills it, all take jobs in turn. Who takes which is left to chance; so
 * jobs must not depend on each other. A ticket counts in its own round alone: a thread that was interrupted between taking one
 * and looking how many jobs there are must not take that of a later round, which another thread has, too.
 */
export class JobQueue {
  readonly address: number;
  readonly #words: Int32Array;

  constructor(memory: SharedMemory, address: number) {
    this.address = address;
    this.#words = new Int32Array(memory.buffer, address, QUEUE_BYTES / 4);
  }

  static create(arena: Arena): JobQueue {
    return new JobQueue(arena.memory, arena.allocate(QUEUE_BYTES));
  }

  /** Gives the memory back. No thread may be at it any more. */
  release(arena: Arena): void {
    arena.release(this.address, QUEUE_BYTES);
  }

  /** Hands out at most {@link QUEUE_CAPACITY} jobs. What was there before must be {@link done}. */
  fill(jobs: readonly Job[]): void {
    const words = this.#words;
    const round = Atomics.load(words, ROUND) + 1;
    for (let i = 0, at = JOBS; i < jobs.length; i++, at += JOB_WORDS) {
      const { kernel, call, begin, end } = jobs[i]!;
      words[at] = kernel;
      words[at + 1] = call;
      words[at + 2] = begin;
      words[at + 3] = end;
    }
    Atomics.store(words, DONE, 0);
    Atomics.store(words, OPEN, (round << NUMBER_BITS) | jobs.length);
    Atomics.store(words, TICKET, round << NUMBER_BITS);
    this.#wake(round);
  }

  /** Takes jobs and does them until there are none left to take. */
  takeAll(run: Run): void {
    const words = this.#words;
    for (;;) {
      const ticket = Atomics.add(words, TICKET, 1);
      const open = Atomics.load(words, OPEN);
      const number = ticket & NUMBERS;
      if (ticket >> NUMBER_BITS !== open >> NUMBER_BITS || number >= (open & NUMBERS)) return;
      const at = JOBS + JOB_WORDS * number;
      run(words[at]! >>> 0, words[at + 1]! >>> 0, words[at + 2]!, words[at + 3]!);
      if (Atomics.add(words, DONE, 1) + 1 === (open & NUMBERS)) Atomics.notify(words, DONE);
    }
  }

  /** Whether every job that was handed out is done; looks on for some time until they are. */
  isDone(spinMs: number): boolean {
    return spinWhile(() => this.#done !== this.#count, spinMs);
  }

  /** Resolves when every job that was handed out is done. */
  async done(): Promise<void> {
    const count = this.#count;
    for (let done = this.#done; done !== count; done = this.#done) await wokenAt(this.#words, DONE, done);
  }

  /** Ends {@link work} on every thread, once what was taken is done. */
  close(): void {
    Atomics.store(this.#words, CLOSED, 1);
    this.#wake(Atomics.load(this.#words, ROUND) + 1);
  }

  /** Takes jobs and does them until the queue is closed, blocking the thread in between. */
  work(run: Run): void {
    const words = this.#words;
    while (Atomics.load(words, CLOSED) === 0) {
      const round = Atomics.load(words, ROUND);
      this.takeAll(run);
      if (spinWhile(() => Atomics.load(words, ROUND) === round, SPIN_MS)) continue;
      Atomics.add(words, SLEEPING, 1);
      Atomics.wait(words, ROUND, round);
      Atomics.sub(words, SLEEPING, 1);
    }
  }

  get #done(): number {
    return Atomics.load(this.#words, DONE);
  }

  get #count(): number {
    return Atomics.load(this.#words, OPEN) & NUMBERS;
  }

  /** Announces a round. Who falls asleep meanwhile finds that it has begun. */
  #wake(round: number): void {
    Atomics.store(this.#words, ROUND, round);
    if (Atomics.load(this.#words, SLEEPING) > 0) Atomics.notify(this.#words, ROUND);
  }
}

/** Looks on while a condition holds, for some time at most. Tells whether it ended. */
function spinWhile(condition: () => boolean, milliseconds: number): boolean {
  if (!condition()) return true;
  const end = performance.now() + milliseconds;
  while (performance.now() < end) {
    for (let i = 0; i < 64; i++) if (!condition()) return true;
  }
  return false;
}
