import { kernel } from '../kernels/kernel.ts';
import type { Parameters } from '../params/parameters.ts';

/** Puts gradients where weights would go: of rows, at their numbers. */
export const spreadKernel = kernel('spread', {}, ({ g }) => ({ w: g }));

/** Room where the gradients of some rows become those of a whole table, for rules that cannot step a row by itself. */
export class Spread {
  readonly #params: Parameters;
  readonly #addresses = new Map<number, number>();

  constructor(params: Parameters) {
    this.#params = params;
  }

  /** The address of as many zeros as a parameter has elements. */
  zeros(index: number): number {
    const { arena, places } = this.#params;
    const byteLength = 4 * places[index]!.length;
    const known = this.#addresses.get(index);
    if (known !== undefined) {
      arena.bytes.fill(0, known, known + byteLength);
      return known;
    }
    const address = arena.allocate(byteLength);
    this.#addresses.set(index, address);
    return address;
  }

  /** Gives the memory back. */
  dispose(): void {
    const { arena, places } = this.#params;
    for (const [index, address] of this.#addresses) arena.release(address, 4 * places[index]!.length);
  }
}
