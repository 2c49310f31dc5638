import { RxgradError } from '../errors.ts';

/** One of the two weight buffers. */
export type Side = 0 | 1;

// Each word has a cache line of its own: readers on other threads count there.
const WORDS = 16;
const LIVE = 0;
const LATEST = 1 * WORDS;
const ATTACHED = 2 * WORDS;
const READERS = [3 * WORDS, 4 * WORDS] as const;
const WAITING = 5 * WORDS;
const VERSIONS_BYTES = 6 * WORDS * 4;

/** After which a reader that still holds a side is taken for dead. */
const READER_TIMEOUT_MS = 10_000;

/** Bytes of the control block. */
export const CONTROL_BYTES = VERSIONS_BYTES + 64;

/**
 * The left-right protocol over a control block in shared memory: one writer, any number of readers on any threads.
 *
 * `latest` is the side that holds the newest weights, `live` the side that readers see; a swap makes the latest one live. A
 * reader marks the live side while it reads. The writer only ever writes a side that nobody can be reading: the one that
 * is not live, once its last readers have let go; or, where no reader is attached at all, the one there is.
 *
 * Ramalhete and Correia, "Left-Right: A Concurrency Control Technique with Wait-Free Population Oblivious Reads" (2015).
 */
export class LeftRight {
  readonly #words: Int32Array;
  readonly #versions: Float64Array;

  constructor(buffer: ArrayBufferLike, address: number) {
    this.#words = new Int32Array(buffer, address, VERSIONS_BYTES / 4);
    this.#versions = new Float64Array(buffer, address + VERSIONS_BYTES, 2);
  }

  get live(): Side {
    return Atomics.load(this.#words, LIVE) as Side;
  }

  get latest(): Side {
    return Atomics.load(this.#words, LATEST) as Side;
  }

  /** The version whose weights a side holds. Safe up to 2⁵³. */
  version(side: Side): number {
    return this.#versions[side]!;
  }

  /** Announces a reader; from now on the live side is never written. Must not run while a step is being written. */
  attach(): void {
    Atomics.add(this.#words, ATTACHED, 1);
  }

  detach(): void {
    Atomics.sub(this.#words, ATTACHED, 1);
  }

  /** Marks the live side as being read and returns it. Wait-free but for a swap in between. */
  acquire(): Side {
    for (;;) {
      const side = this.live;
      Atomics.add(this.#words, READERS[side], 1);
      if (this.live === side) return side;
      this.release(side);
    }
  }

  release(side: Side): void {
    const before = Atomics.sub(this.#words, READERS[side], 1);
    if (before === 1 && Atomics.load(this.#words, WAITING) !== 0) Atomics.notify(this.#words, READERS[side]);
  }

  /** The side that the next version is written to. It may still have readers: see {@link isFree}. */
  get target(): Side {
    const latest = this.latest;
    if (Atomics.load(this.#words, ATTACHED) === 0 || this.live !== latest) return latest;
    return latest === 0 ? 1 : 0;
  }

  isFree(side: Side): boolean {
    return Atomics.load(this.#words, READERS[side]) === 0;
  }

  /** Waits without blocking the thread until nobody reads a side any more. */
  async whenFree(side: Side, timeoutMs = READER_TIMEOUT_MS): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    Atomics.add(this.#words, WAITING, 1);
    try {
      for (let readers = this.#readers(side); readers !== 0; readers = this.#readers(side)) {
        const left = deadline - performance.now();
        if (left <= 0) throw new RxgradError('readerTimeout', { version: this.version(side), timeoutMs });
        const wait = Atomics.waitAsync(this.#words, READERS[side], readers, left);
        if (wait.async) await wait.value;
      }
    } finally {
      Atomics.sub(this.#words, WAITING, 1);
    }
  }

  /** As {@link whenFree}, blocking the thread. */
  waitUntilFree(side: Side, timeoutMs = READER_TIMEOUT_MS): void {
    const deadline = performance.now() + timeoutMs;
    Atomics.add(this.#words, WAITING, 1);
    try {
      for (let readers = this.#readers(side); readers !== 0; readers = this.#readers(side)) {
        const left = deadline - performance.now();
        if (left <= 0) throw new RxgradError('readerTimeout', { version: this.version(side), timeoutMs });
        Atomics.wait(this.#words, READERS[side], readers, left);
      }
    } finally {
      Atomics.sub(this.#words, WAITING, 1);
    }
  }

  /** Makes a side, written whole, the latest one. Readers see it after {@link swap}. */
  commit(side: Side, version: number): void {
    this.#versions[side] = version;
    Atomics.store(this.#words, LATEST, side);
    if (Atomics.load(this.#words, ATTACHED) === 0) Atomics.store(this.#words, LIVE, side);
  }

  /** Shows the latest side to readers: the flip of an index. */
  swap(): void {
    Atomics.store(this.#words, LIVE, this.latest);
  }

  #readers(side: Side): number {
    return Atomics.load(this.#words, READERS[side]);
  }
}
