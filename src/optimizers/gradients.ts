import { CALL_BYTES, Call } from '../kernels/call.ts';
import { shapedKernel } from '../kernels/kernel.ts';
import { blockFor, copyBytes } from '../kernels/kernels.ts';
import type { Parameters } from '../params/parameters.ts';
import { type TakenIn, type TensorLayout, takingIn } from '../payload.ts';
import type { Execution } from './execution.ts';

const squares = { ...shapedKernel('squares', {}), byElement: true };

interface Piece {
  readonly address: number;
  readonly byteLength: number;
}

/** Elements that are copied in one go: whole blocks. */
const PORTION = 2 ** 18;

/** Room in the arena for the gradients of a batch and of the one that comes next, and their norm. */
export class Gradients {
  readonly #params: Parameters;
  readonly #call: Call;
  #room: Piece = { address: 0, byteLength: 0 };
  #aside: Piece = { address: 0, byteLength: 0 };
  #sums: Piece = { address: 0, byteLength: 0 };

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
  *takeIn(layout: TensorLayout, payload: Uint8Array, execution: Execution): Generator<void, TakenIn> {
    const { arena } = this.#params;
    this.#room = this.#enough(this.#room, layout.roomBytes);
    if (!layout.plain || !execution.beside || layout.elements < PORTION)
      return yield* takingIn(arena, this.address, layout, payload);
    // A portion is squared while the next one is copied.
    this.#prepare(layout);
    for (let at = 0; at < layout.elements; at += PORTION) {
      const stop = Math.min(layout.elements, at + PORTION);
      copyBytes(payload, arena.bytes, this.address + 4 * at, 4 * at, 4 * stop);
      if (at > 0) yield;
      execution.add(squares, this.#call.address, stop, 1, at);
      execution.start();
    }
    yield;
    return { sumOfSquares: this.#sum(layout), rows: null };
  }

  /** As {@link takeIn}, beside what is there now: {@link turn} makes it the gradients. */
  takeAside(layout: TensorLayout, payload: Uint8Array): Generator<void, TakenIn> {
    this.#aside = this.#enough(this.#aside, layout.roomBytes);
    return takingIn(this.#params.arena, this.#aside.address, layout, payload);
  }

  turn(): void {
    [this.#room, this.#aside] = [this.#aside, this.#room];
  }

  /** The norm as it is now. */
  *norm(layout: TensorLayout, execution: Execution): Generator<void, number> {
    this.#prepare(layout);
    execution.add(squares, this.#call.address, layout.elements);
    yield;
    return Math.sqrt(this.#sum(layout));
  }

  /** Gives the memory back. */
  dispose(): void {
    const { arena } = this.#params;
    for (const { address, byteLength } of [this.#room, this.#aside, this.#sums]) arena.release(address, byteLength);
    arena.release(this.#call.address, CALL_BYTES);
  }

  /** Prepares the call that squares, block by block. */
  #prepare({ elements }: TensorLayout): void {
    const block = blockFor(elements);
    this.#sums = this.#enough(this.#sums, 8 * Math.ceil(elements / block));
    this.#call.setGradient(this.address);
    this.#call.setSums(this.#sums.address);
    this.#call.setRows(0, block);
  }

  /** Adds up the squares of all blocks, in order. */
  #sum({ elements }: TensorLayout): number {
    const blocks = Math.ceil(elements / blockFor(elements));
    let sum = 0;
    for (const part of new Float64Array(this.#params.arena.memory.buffer, this.#sums.address, blocks)) sum += part;
    return sum;
  }

  #enough(piece: Piece, byteLength: number): Piece {
    if (byteLength <= piece.byteLength) return piece;
    const { arena } = this.#params;
    arena.release(piece.address, piece.byteLength);
    return { address: arena.allocate(byteLength), byteLength };
  }
}
