import { copyBytes, type SharedMemory } from '../kernels/kernels.ts';
import { LeftRight, type Slot, type SlotFacts } from './left-right.ts';

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
  readonly #memory: SharedMemory;
  readonly #leftRight: LeftRight;
  /** Views of each slot that was read, and where it lay then. */
  readonly #views: { readonly address: number; readonly weights: Weights }[] = [];
  #attached = true;

  /** Joins weights that {@link Parameters.share} has handed out (it has announced this reader already). */
  static attach(shared: SharedWeights): WeightsReader {
    return new WeightsReader(shared);
  }

  private constructor({ memory, control, places }: SharedWeights) {
    this.places = places;
    this.#memory = memory;
    this.#leftRight = new LeftRight(memory.buffer, control);
  }

  /** Marks the live version as being read and returns its slot. Pair each call with {@link release}. */
  acquire(): Slot {
    return this.#leftRight.acquire();
  }

  /** Marks a kept slot as being read, whatever is live: for the thread that keeps it. */
  hold(slot: Slot): void {
    this.#leftRight.hold(slot);
  }

  release(slot: Slot): void {
    this.#leftRight.release(slot);
  }

  /** The weights of a slot: views, valid while it is acquired. Those of a slot that holds the same buffer as before are the same. */
  weights(slot: Slot): Weights {
    const address = this.#leftRight.address(slot);
    const known = this.#views[slot];
    if (known?.address === address) return known.weights;
    const weights = viewsAt(this.#memory.buffer, this.places, address);
    this.#views[slot] = { address, weights };
    return weights;
  }

  /** Copies the weights of an acquired slot, laid out as {@link places} say. */
  copy(slot: Slot, to: Uint8Array): void {
    const address = this.#leftRight.address(slot);
    const { offset, length } = this.places.at(-1)!;
    copyBytes(new Uint8Array(this.#memory.buffer, address, offset + 4 * length), to, 0);
  }

  version(slot: Slot): number {
    return this.#leftRight.version(slot);
  }

  /** What is known of an acquired slot's weights. See {@link Parameters.factsOf}. */
  facts(slot: Slot): SlotFacts {
    return this.#leftRight.facts(slot);
  }

  /** The slot that is live now. */
  get live(): Slot {
    return this.#leftRight.live;
  }

  /** The version that is live now. */
  get liveVersion(): number {
    return this.#leftRight.version(this.#leftRight.live);
  }

  /** Runs a function over one version of the weights. They are lent for the duration of the call. */
  read<T>(use: (weights: Weights, version: number) => T): T {
    const slot = this.acquire();
    try {
      return use(this.weights(slot), this.version(slot));
    } finally {
      this.release(slot);
    }
  }

  /** Takes leave: without readers, the scan steps in place again. */
  close(): void {
    if (this.#attached) this.#leftRight.detach();
    this.#attached = false;
  }
}

/** Views of a buffer that is laid out as weights are. */
export function viewsAt(buffer: ArrayBufferLike, places: readonly ParameterPlace[], address: number): Weights {
  return Object.fromEntries(places.map(({ name, offset, length }) => [name, new Float32Array(buffer, address + offset, length)]));
}
