import { CALL_BYTES, Call } from '../kernels/call.ts';
import { shapedKernel } from '../kernels/kernel.ts';
import { blockFor } from '../kernels/kernels.ts';
import type { Parameters } from '../params/parameters.ts';
import { type TakenIn, type TensorLayout, takingIn } from '../payload.ts';
import type { Execution } from './execution.ts';

const squares = { ...shapedKernel('squares', {}), byElement: true };

/** Room in the arena for one batch's gradients, and their norm. */
export class Gradients {
  readonly #params: Parameters;
  readonly #call: Call;
  #room = { address: 0, byteLength: 0 };
  #sums = { address: 0, byteLength: 0 };

  constructor(params: Parameters) {
    this.#params = params;
    const { arena } = params;
    const address = arena.allocate(CALL_BYTES);
    this.#call = new Call(arena.memory.buffer, address);
  }

  get address(): number {
    return this.#room.address;
  }

  /** Takes a payload in, yielding now and then; returns what it came to. */
  takeIn(layout: TensorLayout, payload: Uint8Array): Generator<void, TakenIn> {
    this.#room = this.#enough(this.#room, layout.roomBytes);
    return takingIn(this.#params.arena, this.#room.address, layout, payload);
  }

  /** The norm as it is now. */
  *norm({ elements }: TensorLayout, execution: Execution): Generator<void, number> {
    const block = blockFor(elements);
    const blocks = Math.ceil(elements / block);
    this.#sums = this.#enough(this.#sums, 8 * blocks);
    this.#call.setGradient(this.#room.address);
    this.#call.setSums(this.#sums.address);
    this.#call.setRows(0, block);
    execution.add(squares, this.#call.address, elements);
    yield;
    let sum = 0;
    for (const part of new Float64Array(this.#params.arena.memory.buffer, this.#sums.address, blocks)) sum += part;
    return Math.sqrt(sum);
  }

  /** Names of tensors that are not finite. */
  notFinite({ tensors }: TensorLayout): string[] {
    const { kernels } = this.#params.arena;
    return tensors
      .filter(({ at, length }) => !Number.isFinite(kernels.sumOfSquares(this.address + at, length)))
      .map(({ name }) => name);
  }

  /** Gives the memory back. */
  dispose(): void {
    const { arena } = this.#params;
    for (const { address, byteLength } of [this.#room, this.#sums]) arena.release(address, byteLength);
    arena.release(this.#call.address, CALL_BYTES);
  }

  #enough(piece: { address: number; byteLength: number }, byteLength: number): { address: number; byteLength: number } {
    if (byteLength <= piece.byteLength) return piece;
    const { arena } = this.#params;
    arena.release(piece.address, piece.byteLength);
    return { address: arena.allocate(byteLength), byteLength };
  }
}
