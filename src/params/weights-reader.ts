import { threadId } from 'node:worker_threads';
import { RxgradError } from '../errors.ts';
import { copyBytes, type SharedMemory } from '../kernels/kernels.ts';
import type { ParameterPlace } from './layout.ts';
import { ReaderMarks } from './reader-marks.ts';
import type { AnnouncedReader } from './readers.ts';
import { type Slot, type SlotFacts, SlotTable } from './slot-table.ts';
import { SlotViews, type Weights } from './slot-views.ts';

export type { ParameterPlace } from './layout.ts';
export type { Weights } from './slot-views.ts';

/** What one reader on another thread needs to read weights in place. Survives `postMessage` and `workerData`. */
export interface SharedWeights {
  readonly memory: SharedMemory;
  readonly control: number;
  readonly places: readonly ParameterPlace[];
  /** The reader that it is for. */
  readonly reader: AnnouncedReader;
}

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
  readonly #table: SlotTable;
  readonly #marks: ReaderMarks;
  readonly #views: SlotViews;

  /** Joins weights that {@link Parameters.share} has handed out for this one reader. */
  static attach(shared: SharedWeights): WeightsReader {
    return new WeightsReader(shared);
  }

  private constructor({ memory, control, places, reader }: SharedWeights) {
    this.places = places;
    this.#memory = memory;
    this.#table = new SlotTable(memory.buffer, control);
    this.#marks = new ReaderMarks(this.#table, memory.buffer, reader.address);
    this.#views = new SlotViews(memory, places, this.#table);
    if (!this.#marks.attach(reader.id, threadId)) {
      const [expected, got] = ['what params.share() returned, for one reader', 'what another reader has taken'];
      throw new RxgradError('invalidOption', { option: 'WeightsReader.attach', expected, got });
    }
  }

  /** Marks the live version as being read and returns its slot. Pair each call with {@link release}. */
  acquire(): Slot {
    return this.#marks.acquire();
  }

  /** Marks a kept slot as being read, whatever is live: for the thread that keeps it. */
  hold(slot: Slot): void {
    this.#marks.hold(slot);
  }

  release(slot: Slot): void {
    this.#marks.release(slot);
  }

  /** The weights of a slot: views, valid while it is acquired. Those of a slot that holds the same buffer as before are the same. */
  weights(slot: Slot): Weights {
    return this.#views.of(slot);
  }

  /** Copies the weights of an acquired slot, laid out as {@link places} say. */
  copy(slot: Slot, to: Uint8Array): void {
    const address = this.#table.address(slot);
    const { offset, length } = this.places.at(-1)!;
    copyBytes(new Uint8Array(this.#memory.buffer, address, offset + 4 * length), to, 0);
  }

  version(slot: Slot): number {
    return this.#table.version(slot);
  }

  /** What is known of an acquired slot's weights. See {@link Parameters.factsOf}. */
  facts(slot: Slot): SlotFacts {
    return this.#table.facts(slot);
  }

  /** The slot that is live now. */
  get live(): Slot {
    return this.#table.live;
  }

  /** The version that is live now. */
  get liveVersion(): number {
    return this.#table.version(this.#table.live);
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
    this.#marks.close();
  }
}
