import type { Parameters } from '../params/parameters.ts';

/** The shapes of some parameters where kernels can read them: for each, its rank and its dims as 32-bit numbers. */
export class Shapes {
  /** By the parameter's place. */
  readonly addresses: readonly number[];
  readonly #params: Parameters;
  readonly #byteLength: number;

  constructor(params: Parameters) {
    const { arena, places } = params;
    const words = places.flatMap(({ dims }) => [dims.length, ...dims]);
    this.#params = params;
    this.#byteLength = 4 * words.length;
    let address = arena.allocate(this.#byteLength);
    new Uint32Array(arena.memory.buffer, address, words.length).set(words);
    this.addresses = places.map(({ dims }) => {
      const own = address;
      address += 4 * (1 + dims.length);
      return own;
    });
  }

  /** Gives the memory back. */
  dispose(): void {
    this.#params.arena.release(this.addresses[0] ?? 0, this.#byteLength);
  }
}
