import { RxgradError } from '../errors.ts';
import { type Kernels, loadKernels, type SharedMemory } from './kernels.ts';

const PAGE = 65_536;
const LINE = 64;

/** Pages a WebAssembly memory can have at most: 4 GiB. */
export const MAXIMUM_PAGES = 65_536;

/**
 * One growing, shared WebAssembly memory, cut into pieces of whole cache lines, with the kernels bound to it. Growing keeps
 * earlier views valid (shared memory never detaches), but only views made afterwards reach the new part.
 */
export class Arena {
  readonly memory: SharedMemory;
  readonly kernels: Kernels;
  #bytes: Uint8Array;
  // Address 0 stays unused, so that a forgotten address is never a valid one.
  #end = LINE;
  readonly #free = new Map<number, number[]>();

  constructor() {
    this.memory = new WebAssembly.Memory({ initial: 1, maximum: MAXIMUM_PAGES, shared: true });
    this.kernels = loadKernels(this.memory);
    this.#bytes = new Uint8Array(this.memory.buffer);
  }

  /** All of the memory. Ask again after an allocation. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** Returns the address of `byteLength` zeroed bytes, 64-byte aligned. */
  allocate(byteLength: number): number {
    const size = lines(byteLength);
    const reused = this.#free.get(size)?.pop();
    if (reused !== undefined) {
      this.#bytes.fill(0, reused, reused + size);
      return reused;
    }
    const address = this.#end;
    this.#grow(address + size);
    this.#end = address + size;
    return address;
  }

  /** Takes a piece back, where there is one (address 0 is none); the next allocation of the same size gets it. */
  release(address: number, byteLength: number): void {
    if (address === 0) return;
    const size = lines(byteLength);
    const pieces = this.#free.get(size);
    if (pieces) pieces.push(address);
    else this.#free.set(size, [address]);
  }

  floats(address: number, length: number): Float32Array {
    return new Float32Array(this.memory.buffer, address, length);
  }

  #grow(end: number): void {
    const missing = end - this.#bytes.byteLength;
    if (missing <= 0) return;
    try {
      this.memory.grow(Math.ceil(missing / PAGE));
    } catch (cause) {
      throw new RxgradError('outOfMemory', { bytes: end, limit: MAXIMUM_PAGES * PAGE }, { cause });
    }
    this.#bytes = new Uint8Array(this.memory.buffer);
  }
}

function lines(byteLength: number): number {
  return Math.max(LINE, Math.ceil(byteLength / LINE) * LINE);
}
