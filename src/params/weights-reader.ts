import type { SharedMemory } from '../kernels/kernels.ts';
import { LeftRight, type Side } from './left-right.ts';

/** Where a parameter lies: `offset` counts bytes from the start of its weight buffer. */
export interface ParameterPlace {
  readonly name: string;
  readonly dims: readonly number[];
  readonly offset: number;
  readonly length: number;
}

/** What another thread needs to read weights in place. Survives `postMessage` and `workerData`. */
export interface SharedWeights {
  readonly memory: SharedMemory;
  readonly control: number;
  /** Addresses of the two weight buffers. */
  readonly weights: readonly [number, number];
  readonly places: readonly ParameterPlace[];
}

/** Weights by parameter name, row-major. */
export type Weights = Readonly<Record<string, Float32Array>>;

/**
 * Reads the live weights in place, from any thread. What it sees between `acquire` and `release` is one version, whole.
 *
 * @example
 * // in a worker thread, with `workerData = params.share()`
 * const reader = WeightsReader.attach(workerData);
 * reader.read((weights, version) => console.log(version, weights['dense.bias']));
 */
export class WeightsReader {
  readonly places: readonly ParameterPlace[];
  /** The weights of either side; valid while that side is acquired. */
  readonly sides: readonly [Weights, Weights];
  readonly #leftRight: LeftRight;
  #attached = true;

  /** Joins weights that {@link Parameters.share} has handed out (it has announced this reader already). */
  static attach(shared: SharedWeights): WeightsReader {
    return new WeightsReader(shared);
  }

  private constructor(shared: SharedWeights) {
    this.places = shared.places;
    this.#leftRight = new LeftRight(shared.memory.buffer, shared.control);
    this.sides = [viewsOf(shared, 0), viewsOf(shared, 1)];
  }

  /** Marks the live version as being read and returns its side. Pair each call with {@link release}. */
  acquire(): Side {
    return this.#leftRight.acquire();
  }

  release(side: Side): void {
    this.#leftRight.release(side);
  }

  version(side: Side): number {
    return this.#leftRight.version(side);
  }

  /** The version that is live now. */
  get liveVersion(): number {
    return this.#leftRight.version(this.#leftRight.live);
  }

  /** Runs a function over one version of the weights. They are lent for the duration of the call. */
  read<T>(use: (weights: Weights, version: number) => T): T {
    const side = this.acquire();
    try {
      return use(this.sides[side], this.version(side));
    } finally {
      this.release(side);
    }
  }

  /** Takes leave: without readers, the scan steps in place again. */
  close(): void {
    if (this.#attached) this.#leftRight.detach();
    this.#attached = false;
  }
}

function viewsOf({ memory, weights, places }: SharedWeights, side: Side): Weights {
  return Object.fromEntries(
    places.map(({ name, offset, length }) => [name, new Float32Array(memory.buffer, weights[side] + offset, length)]),
  );
}
