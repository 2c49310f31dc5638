import type { SharedMemory } from '../kernels/kernels.ts';
import type { ParameterPlace } from './layout.ts';
import type { Slot, SlotTable } from './slot-table.ts';

/** Weights by parameter name, row-major. */
export type Weights = Readonly<Record<string, Float32Array>>;

/** Views of the weights in slots: made once for each buffer, since a slot may come to lie elsewhere. */
export class SlotViews {
  readonly #memory: SharedMemory;
  readonly #places: readonly ParameterPlace[];
  readonly #table: SlotTable;
  readonly #views: { readonly address: number; readonly weights: Weights }[] = [];

  constructor(memory: SharedMemory, places: readonly ParameterPlace[], table: SlotTable) {
    this.#memory = memory;
    this.#places = places;
    this.#table = table;
  }

  /** The weights of a slot. Those of a slot that holds the same buffer as before are the same. */
  of(slot: Slot): Weights {
    const address = this.#table.address(slot);
    const known = this.#views[slot];
    if (known?.address === address) return known.weights;
    const weights = viewsAt(this.#memory.buffer, this.#places, address);
    this.#views[slot] = { address, weights };
    return weights;
  }
}

/** Views of a buffer that is laid out as weights are. */
export function viewsAt(buffer: ArrayBufferLike, places: readonly ParameterPlace[], address: number): Weights {
  return Object.fromEntries(places.map(({ name, offset, length }) => [name, new Float32Array(buffer, address + offset, length)]));
}
