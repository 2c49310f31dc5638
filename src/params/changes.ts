import type { Arena } from '../kernels/arena.ts';
import type { Written } from './differences.ts';
import type { ParameterPlace } from './weights-reader.ts';

/** What was written of some parameters: by index the numbers of the rows, rising, or null for all of it. */
export type Touched = ReadonlyMap<number, Int32Array | null>;

interface Marks {
  whole: boolean;
  count: number;
  /** A bit for each row, made when the first one is marked. */
  bits: Uint32Array | null;
}

/**
 * Follows what is written, step by step, until it is asked for: each row once, however often it was touched. Of a table
 * of which more than a quarter was, all counts as written; so that is the most a list of rows can be.
 */
export class Changes implements Written {
  readonly #arena: Arena;
  readonly #places: readonly ParameterPlace[];
  readonly #marks: readonly Marks[];
  readonly #leave: (changes: Changes) => void;

  constructor(arena: Arena, places: readonly ParameterPlace[], leave: (changes: Changes) => void) {
    this.#arena = arena;
    this.#places = places;
    this.#marks = places.map(() => ({ whole: false, count: 0, bits: null }));
    this.#leave = leave;
  }

  add(index: number): void {
    this.#marks[index]!.whole = true;
  }

  addRows(index: number, address: number, count: number): void {
    const marks = this.#marks[index]!;
    if (marks.whole) return;
    const rows = this.#places[index]!.dims[0]!;
    marks.bits ??= new Uint32Array(Math.ceil(rows / 32));
    const { bits } = marks;
    for (const row of new Int32Array(this.#arena.memory.buffer, address, count)) {
      const mask = 1 << (row & 31);
      if ((bits[row >>> 5]! & mask) !== 0) continue;
      bits[row >>> 5]! |= mask;
      marks.count += 1;
    }
    marks.whole = marks.count > Math.floor(rows / 4);
  }

  /** Hands out what was written since the last call, and begins anew. */
  take(): Touched {
    const touched = new Map<number, Int32Array | null>();
    for (const [index, marks] of this.#marks.entries()) {
      if (marks.whole) touched.set(index, null);
      else if (marks.count > 0) touched.set(index, numbersOf(marks.bits!, marks.count));
      if (marks.count > 0) marks.bits!.fill(0);
      marks.whole = false;
      marks.count = 0;
    }
    return touched;
  }

  /** Ends it: steps note nothing here any more. */
  close(): void {
    this.#leave(this);
  }
}

function numbersOf(bits: Uint32Array, count: number): Int32Array {
  const numbers = new Int32Array(count);
  let at = 0;
  for (let word = 0; at < count; word++) {
    for (let rest = bits[word]!; rest !== 0; rest &= rest - 1) numbers[at++] = 32 * word + 31 - Math.clz32(rest & -rest);
  }
  return numbers;
}
