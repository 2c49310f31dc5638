import { type Kernel, MAXIMUM_ARRAYS, MAXIMUM_SCALARS } from './kernel.ts';

/** Where the parts of a call lie, in 4-byte words. The emitted loops read them from there. */
export const callWords = {
  w: 0,
  out: 1,
  g: 2,
  sums: 3,
  rows: 4,
  width: 5,
  arrays: 6,
  scale: 6 + MAXIMUM_ARRAYS,
  limit: 7 + MAXIMUM_ARRAYS,
  decay: 8 + MAXIMUM_ARRAYS,
  lr: 9 + MAXIMUM_ARRAYS,
  scalars: 10 + MAXIMUM_ARRAYS,
  bad: 10 + MAXIMUM_ARRAYS + MAXIMUM_SCALARS,
} as const;

/** Bytes of a call. */
export const CALL_BYTES = 128;

if (4 * (callWords.bad + 1) > CALL_BYTES) throw new Error('A call outgrew its bytes');

/**
 * What a kernel is run with, as it lies in the arena, where other threads can read it too: addresses of one parameter's
 * numbers, and scalars in float32.
 */
export class Call {
  readonly address: number;
  readonly #words: Uint32Array;
  readonly #floats: Float32Array;

  constructor(buffer: ArrayBufferLike, address: number) {
    this.address = address;
    this.#words = new Uint32Array(buffer, address, CALL_BYTES / 4);
    this.#floats = new Float32Array(buffer, address, CALL_BYTES / 4);
  }

  /** Weights are read at `w` and written at `out`, which may be the same. */
  setWeights(w: number, out: number): void {
    this.#words[callWords.w] = w;
    this.#words[callWords.out] = out;
  }

  setGradient(g: number): void {
    this.#words[callWords.g] = g;
  }

  /** Where a kernel's sums go: as many float64 as it has sums, for each block. */
  setSums(address: number): void {
    this.#words[callWords.sums] = address;
  }

  /** Whether all that was written as weights since this was reset is finite. */
  get finite(): boolean {
    return this.#words[callWords.bad] === 0;
  }

  resetFinite(): void {
    this.#words[callWords.bad] = 0;
  }

  /** For a step of some rows: where their int32 numbers lie, and the elements of a row. */
  setRows(address: number, width: number): void {
    this.#words[callWords.rows] = address;
    this.#words[callWords.width] = width;
  }

  setPrologue(scale: number, limit: number, decay: number): void {
    this.#floats[callWords.scale] = scale;
    this.#floats[callWords.limit] = limit;
    this.#floats[callWords.decay] = decay;
  }

  setArray(index: number, address: number): void {
    this.#words[callWords.arrays + index] = address;
  }

  setScalars(kernel: Kernel, lr: number, values: Readonly<Record<string, number>>): void {
    this.#floats[callWords.lr] = lr;
    const { scalars } = kernel;
    for (let i = 0; i < scalars.length; i++) this.#floats[callWords.scalars + i] = values[scalars[i]!]!;
  }
}
