import { readFileSync } from 'node:fs';

/**
 * The numeric loops, bound to one memory. Addresses are byte offsets into it, lengths count float32 elements. Formulas:
 * `assembly/`, and the rules' own definitions.
 */
export interface Kernels {
  sumOfSquares(g: number, length: number): number;
  scale(g: number, length: number, factor: number): void;
  clip(g: number, length: number, limit: number): void;
  addScaled(y: number, x: number, length: number, factor: number): void;
  decodeF16(from: number, to: number, length: number): void;
  decodeBF16(from: number, to: number, length: number): void;
  decodeI8(from: number, to: number, length: number, scale: number): void;
  decodeI64(from: number, to: number, length: number): void;
  /** Whether each int32 is greater than the one before (1 or 0). */
  isRising(address: number, length: number): number;
  /** Adds rows with the same number up, and returns how many are left: see `assembly/rows.ts`. */
  addUpRows(
    numbers: number,
    values: number,
    count: number,
    width: number,
    table: number,
    bits: number,
    multiplier: number,
  ): number;
  /** Runs a kernel over the elements `[begin, end)` of what a call describes. */
  run(kernel: string, call: number, begin: number, end: number): void;
  /** The kernels that {@link run} knows, in an order that is the same on every thread. */
  readonly loops: readonly { readonly name: string; readonly run: Loop }[];
  /** The place of a kernel in {@link loops}. */
  indexOf(kernel: string): number;
}

/** Runs over the elements `[begin, end)` of what a call describes. */
type Loop = (call: number, begin: number, end: number) => void;

const SMALL_BLOCK = 1024;
const LARGE_BLOCK = 16_384;
const LARGE_MESSAGE = 2 ** 18;

/**
 * Elements of a block that is copied and then squared while it is in cache. It follows from the length alone, as the order of
 * the sum does. Large messages come from memory, which is read ahead while a small block is squared (measured 0.41 instead
 * of 0.62 ns an element at 25 M); for others the calls cost more than that saves.
 */
export function blockFor(length: number): number {
  return length < LARGE_MESSAGE ? LARGE_BLOCK : SMALL_BLOCK;
}

/** A shared WebAssembly.Memory, as far as others need it. */
export interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
  grow(pages: number): number;
}

let module: WebAssembly.Module | undefined;

/** Binds the kernels to a shared memory. The module is compiled once a thread. */
export function loadKernels(memory: SharedMemory): Kernels {
  module ??= new WebAssembly.Module(readFileSync(new URL('./kernels.wasm', import.meta.url)));
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  const byName = exports as Readonly<Record<string, Loop>>;
  const loops = Object.entries(byName).map(([name, run]) => ({ name, run }));
  const indices = new Map(loops.map(({ name }, index) => [name, index]));
  return {
    ...(exports as unknown as Kernels),
    run: (kernel, call, begin, end) => byName[kernel]!(call, begin, end),
    loops,
    indexOf: (kernel) => indices.get(kernel)!,
  };
}

/** Bytes that are copied and squared in a fraction of a millisecond. */
const TURN_BYTES = 2 ** 20;

/**
 * Copies float32 bytes into the memory and returns their sum of squares, yielding now and then. Both are done block by block
 * while a block is in cache; block sums are added in order, so the result depends on the elements alone and not on who
 * computes a block.
 *
 * `Buffer.copy` instead of `TypedArray.set`: the latter copies into shared memory word by word (measured 4 times slower).
 */
export function* copyingAndSquaring(
  kernels: Kernels,
  memory: Uint8Array,
  address: number,
  bytes: Uint8Array,
): Generator<void, number> {
  let sum = 0;
  for (let at = 0; at < bytes.byteLength; at += TURN_BYTES) {
    if (at > 0) yield;
    sum = copyAndSquare(kernels, memory, address, bytes, at, Math.min(bytes.byteLength, at + TURN_BYTES), sum);
  }
  return sum;
}

/** As {@link copyingAndSquaring}, for a part of the bytes at once: returns the sum up to there. */
function copyAndSquare(
  kernels: Kernels,
  memory: Uint8Array,
  address: number,
  bytes: Uint8Array,
  begin: number,
  end: number,
  before: number,
): number {
  const blockBytes = 4 * blockFor(bytes.byteLength >> 2);
  let sum = before;
  for (let at = begin; at < end; at += blockBytes) {
    const stop = Math.min(end, at + blockBytes);
    copyBytes(bytes, memory, address + at, at, stop);
    sum += kernels.sumOfSquares(address + at, (stop - at) >> 2);
  }
  return sum;
}

/** Copies bytes that take no longer than a turn, and returns their sum of squares; null for more. */
export function copyAndSquareAtOnce(kernels: Kernels, memory: Uint8Array, address: number, bytes: Uint8Array): number | null {
  return bytes.byteLength > TURN_BYTES ? null : copyAndSquare(kernels, memory, address, bytes, 0, bytes.byteLength, 0);
}

/** The sum of squares of what is in the memory already, in the same order as {@link copyingAndSquaring}. */
export function sumOfSquares(kernels: Kernels, address: number, length: number): number {
  const block = blockFor(length);
  let sum = 0;
  for (let at = 0; at < length; at += block) sum += kernels.sumOfSquares(address + 4 * at, Math.min(block, length - at));
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
