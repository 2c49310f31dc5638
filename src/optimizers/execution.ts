import { availableParallelism } from 'node:os';
import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import type { Arena } from '../kernels/arena.ts';
import type { Kernel } from '../kernels/kernel.ts';
import { KernelPool } from '../kernels/pool/kernel-pool.ts';
import type { Parameters } from '../params/parameters.ts';

/**
 * Where the kernels of a step run: in place, or on a pool of threads. A step is a generator: it notes kernels and yields where
 * it needs what they leave; so it is written once for both.
 */
export interface Execution {
  /**
   * Notes a kernel over all of a call: so many elements, or rows of a `width` (default 1). It is done when the step goes on
   * behind its next yield.
   */
  add(kernel: Pick<Kernel, 'name' | 'byElement'>, call: number, length: number, width?: number): void;
}

/** On the calling thread, at once. */
export class InPlace implements Execution {
  readonly #arena: Arena;

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  add({ name }: Pick<Kernel, 'name'>, call: number, length: number): void {
    this.#arena.kernels.run(name, call, 0, length);
  }

  finish<T>(step: Generator<void, T>): T {
    let result = step.next();
    while (!result.done) result = step.next();
    return result.value;
  }
}

/** Elements that are done sooner than they are handed over, as where few rows of a large table are stepped. */
const FEW = 2 ** 16;

/** On threads of its own, but for little work; the calling thread is free in between. */
export class OnPool implements Execution {
  readonly #pool: KernelPool;
  // Elements of what was noted.
  #noted = 0;

  constructor(arena: Arena, threads: number) {
    this.#pool = new KernelPool(arena, threads);
  }

  add(kernel: Pick<Kernel, 'name' | 'byElement'>, call: number, length: number, width = 1): void {
    this.#pool.add(kernel, call, length, width);
    this.#noted += length * width;
  }

  async finish<T>(step: Generator<void, T>): Promise<T> {
    for (;;) {
      const result = step.next();
      if (result.done) return result.value;
      const few = this.#noted > 0 && this.#noted <= FEW;
      this.#noted = 0;
      if (few) this.#pool.runHere();
      else await Promise.all([this.#pool.run(), eventLoopTurn()]);
    }
  }

  close(): Promise<void> {
    return this.#pool.close();
  }
}

/** Parameters from which a step in place would hold its thread for more than a millisecond: docs/decisions/0005. */
const POOL_FROM = 2 ** 20;

/** How many threads a scan's kernels get where nobody says: none for small models, else all cores but one, four at most. */
export function threadsFor({ places }: Parameters): number {
  const elements = places.reduce((sum, { length }) => sum + length, 0);
  return elements < POOL_FROM ? 0 : Math.max(1, Math.min(4, availableParallelism() - 1));
}
