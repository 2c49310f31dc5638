import { readFileSync } from 'node:fs';

/**
 * The numeric loops, bound to one memory. Addresses are byte offsets into it, lengths count float32 elements; `w` is read,
 * `out` is written (it may be `w`), the rest is updated in place. Formulas: `assembly/`.
 */
export interface Kernels {
  sumOfSquares(g: number, length: number): number;
  scale(g: number, length: number, factor: number): void;
  clip(g: number, length: number, limit: number): void;
  addDecay(g: number, w: number, length: number, decay: number): void;
  sgd(w: number, out: number, g: number, length: number, scale: number, limit: number, decay: number, lr: number): void;
  momentum: MomentumKernel;
  momentumNesterov: MomentumKernel;
  adam(w: number, out: number, g: number, m: number, n: number, length: number, ...hyper: AdamHyper): void;
  amsgrad(w: number, out: number, g: number, m: number, n: number, x: number, length: number, ...hyper: AdamHyper): void;
}

type MomentumKernel = (
  w: number,
  out: number,
  g: number,
  v: number,
  length: number,
  scale: number,
  limit: number,
  decay: number,
  mu: number,
  lr: number,
) => void;

type AdamHyper = [
  scale: number,
  limit: number,
  decay: number,
  beta1: number,
  rest1: number,
  beta2: number,
  rest2: number,
  correction: number,
  epsilon: number,
  rate: number,
];

/** Elements of a block: what stays in the first-level cache while it is copied and squared. */
export const BLOCK = 16_384;

/** A shared WebAssembly.Memory, as far as others need it. */
export interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
  grow(pages: number): number;
}

let module: WebAssembly.Module | undefined;

/** Binds the kernels to a shared memory. The module is compiled once a thread. */
export function loadKernels(memory: SharedMemory): Kernels {
  module ??= new WebAssembly.Module(readFileSync(new URL('./kernels.wasm', import.meta.url)));
  return new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Kernels;
}

/**
 * Copies float32 bytes into the memory and returns their sum of squares. Both are done block by block while a block is in
 * cache; block sums are added in order, so the result depends on the elements alone and not on who computes a block.
 *
 * `Buffer.copy` instead of `TypedArray.set`: the latter copies into shared memory word by word (measured 4 times slower).
 */
export function copyAndSquare(kernels: Kernels, memory: Uint8Array, address: number, bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.byteLength; at += 4 * BLOCK) {
    const stop = Math.min(bytes.byteLength, at + 4 * BLOCK);
    copyBytes(bytes, memory, address + at, at, stop);
    sum += kernels.sumOfSquares(address + at, (stop - at) >> 2);
  }
  return sum;
}

/** The sum of squares of what is in the memory already, in the same order as {@link copyAndSquare}. */
export function sumOfSquares(kernels: Kernels, address: number, length: number): number {
  let sum = 0;
  for (let at = 0; at < length; at += BLOCK) sum += kernels.sumOfSquares(address + 4 * at, Math.min(BLOCK, length - at));
  return sum;
}

const nativeCopy = Buffer.prototype.copy as (
  this: Uint8Array,
  target: Uint8Array,
  targetStart: number,
  sourceStart?: number,
  sourceEnd?: number,
) => number;

/**
 * Copies bytes `[start, stop)` of one array to `at` of another, which may lie in shared memory.
 *
 * Node hands a copy of a whole array to `TypedArray.set` (lib/buffer.js, `_copyActual`), which goes byte by byte where the
 * two are not aligned alike (measured 14 times slower): so the last byte is written apart.
 */
export function copyBytes(from: Uint8Array, to: Uint8Array, at: number, start = 0, stop = from.byteLength): void {
  if (stop <= start) return;
  const last = stop - 1;
  nativeCopy.call(from, to, at, start, last);
  to[at + last - start] = from[last]!;
}
