import type { Arena } from '../kernels/arena.ts';
import type { ParameterPlace } from './weights-reader.ts';

/** What the two sides differ in: all of a parameter, or some of its rows, whose int32 numbers lie at an address. */
export interface Difference {
  readonly whole: boolean;
  readonly address: number;
  readonly count: number;
}

/** Is told what a version wrote. */
export interface Written {
  /** Notes that a parameter was written. */
  add(index: number): void;
  /** Notes that rows of a parameter were written: `count` int32 numbers at an address of the arena. */
  addRows(index: number, address: number, count: number): void;
}

/**
 * What the side that does not hold the newest weights lacks, by parameter: so that bringing it up to date costs no more than
 * what changed. Rows are listed up to a quarter of a table's; a longer list would cost more than it saves.
 */
export class Differences implements Written {
  readonly #arena: Arena;
  readonly #places: readonly ParameterPlace[];
  readonly #of: { whole: boolean; address: number; count: number }[];

  constructor(arena: Arena, places: readonly ParameterPlace[]) {
    this.#arena = arena;
    this.#places = places;
    this.#of = places.map(() => ({ whole: true, address: 0, count: 0 }));
  }

  of(index: number): Difference {
    return this.#of[index]!;
  }

  /** Notes that both sides are alike. */
  clear(): void {
    for (const difference of this.#of) {
      difference.whole = false;
      difference.count = 0;
    }
  }

  /** Notes that a parameter was written on one side. */
  add(index: number): void {
    this.#of[index]!.whole = true;
  }

  /** Notes that rows of a parameter were written on one side: `count` int32 numbers at an address of the arena. */
  addRows(index: number, address: number, count: number): void {
    const difference = this.#of[index]!;
    const capacity = Math.floor(this.#places[index]!.dims[0]! / 4);
    if (difference.whole || difference.count + count > capacity) {
      difference.whole = true;
      return;
    }
    difference.address ||= this.#arena.allocate(4 * capacity);
    this.#arena.bytes.copyWithin(difference.address + 4 * difference.count, address, address + 4 * count);
    difference.count += count;
  }
}
