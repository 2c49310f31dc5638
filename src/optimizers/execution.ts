import { availableParallelism } from 'node:os';
import type { Arena } from '../kernels/arena.ts';
import type { Kernel } from '../kernels/kernel.ts';
import { KernelPool } from '../kernels/pool/kernel-pool.ts';
import { attention } from '../params/attention.ts';
import type { Parameters } from '../params/parameters.ts';

/**
 * Where the kernels of a step run: in place, or on a pool of threads. A step is a generator: it notes kernels and yields where
 * it needs what they leave; so it is written once for both.
 */
export interface Execution {
  /** Whether what is noted can be done beside other work of the step. */
  readonly beside: boolean;
  /**
   * Notes a kernel over elements, or rows, `[begin, length)` of a call; each row takes as long as so many elements (default
   * 1). It is done when the step goes on behind its next yield.
   */
  add(kernel: Pick<Kernel, 'name' | 'byElement'>, call: number, length: number, elementsEach?: number, begin?: number): void;
  /** Begins with what was noted, while the step does something else. */
  start(): void;
}

/** On the calling thread, at once. */
export class InPlace implements Execution {
  readonly beside = false;
  readonly #arena: Arena;

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  add({ name }: Pick<Kernel, 'name'>, call: number, length: number, _elementsEach = 1, begin = 0): void {
    this.#arena.kernels.run(name, call, begin, length);
  }

  start(): void {}

  finish<T>(step: Generator<void, T>): T {
    let result = step.next();
    while (!result.done) result = step.next();
    return result.value;
  }
}

/** Elements that are done sooner than they are handed over, as where few rows of a large table are stepped. */
const FEW = 2 ** 16;

/** Elements that all threads together have done in about a millisecond: the calling one helps, which spares it the wait, unless it has predictions to make. */
export const TOGETHER = 2 ** 21;

/** What a stretch has to last for the calling thread to help. */
const JOIN_MS = 0.5;

/** On threads of its own. The calling one does little work alone, some together with them, and is free during much. */
export class OnPool implements Execution {
  readonly beside = true;
  readonly #pool: KernelPool;
  // Elements of what was noted.
  #noted = 0;
  #started = false;

  constructor(arena: Arena, threads: number) {
    this.#pool = new KernelPool(arena, threads);
  }

  add(kernel: Pick<Kernel, 'name' | 'byElement'>, call: number, length: number, elementsEach = 1, begin = 0): void {
    this.#pool.add(kernel, call, length, elementsEach, begin);
    this.#noted += (length - begin) * elementsEach;
  }

  start(): void {
    this.#pool.start();
    this.#started = true;
  }

  async finish<T>(step: Generator<void, T>): Promise<T> {
    let turnAt = performance.now() + attention.stretchMs;
    for (let result = step.next(); ; result = step.next()) {
      if (result.done) return result.value;
      if (!this.#finishNoted()) await this.#pool.done();
      else if (performance.now() < turnAt) continue;
      await attention.turn();
      turnAt = performance.now() + attention.stretchMs;
    }
  }

  /** Does what was noted, or hands it out. False where others are still at some of it. */
  #finishNoted(): boolean {
    const [noted, started] = [this.#noted, this.#started];
    this.#noted = 0;
    this.#started = false;
    if (noted === 0) return true;
    if (noted <= FEW && !started) {
      this.#pool.runHere();
      return true;
    }
    if (!started) this.#pool.start();
    return noted <= TOGETHER && attention.stretchMs >= JOIN_MS && this.#pool.join();
  }

  close(): Promise<void> {
    return this.#pool.close();
  }
}

/** Parameters from which a step in place would hold its thread for half a millisecond and more: docs/decisions/0005. */
const POOL_FROM = 2 ** 19;

/** How many threads a scan's kernels get where nobody says: none for small models, else all cores but one, four at most. */
export function threadsFor({ places }: Parameters): number {
  const elements = places.reduce((sum, { length }) => sum + length, 0);
  return elements < POOL_FROM ? 0 : Math.max(1, Math.min(4, availableParallelism() - 1));
}
