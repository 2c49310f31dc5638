import { CALL_BYTES, Call } from '../kernels/call.ts';
import { type Kernel, SUM_BLOCK } from '../kernels/kernel.ts';
import type { Parameters } from '../params/parameters.ts';
import type { PerParameter } from '../setting.ts';
import type { OptimizerState } from './optimizer-state.ts';
import type { Pass, Rule, StepFacts } from './rule.ts';
import { Shapes } from './shapes.ts';

/** A rule's passes over each parameter, as calls that any thread can run: prepares them, and adds up the sums they leave. */
export class Passes {
  readonly #params: Parameters;
  readonly #rule: Rule;
  readonly #weightDecay: PerParameter;
  readonly #state: OptimizerState;
  readonly #shapes: Shapes;
  readonly #calls: readonly Call[];
  readonly #memory: { readonly address: number; readonly byteLength: number };
  readonly #sumsAt: readonly number[];
  readonly #facts: StepFacts[] = [];
  /** For each pass, where its kernel's arrays are in the rule's state. */
  readonly #arrays: readonly (readonly number[])[];

  constructor(params: Parameters, rule: Rule, weightDecay: PerParameter, state: OptimizerState) {
    const { arena, places } = params;
    this.#params = params;
    this.#rule = rule;
    this.#weightDecay = weightDecay;
    this.#state = state;
    this.#shapes = new Shapes(params);
    this.#arrays = rule.passes.map(({ kernel }) =>
      kernel.arrays.map((array) => rule.state.findIndex(({ name }) => name === array)),
    );
    const sumCount = rule.passes.reduce((most, { kernel }) => Math.max(most, kernel.sumCount), 0);
    const callBytes = CALL_BYTES * places.length;
    const sumBytes = places.map(({ length }) => 8 * sumCount * Math.max(1, Math.ceil(length / SUM_BLOCK)));
    const byteLength = callBytes + sumBytes.reduce((all, bytes) => all + bytes, 0);
    const address = arena.allocate(byteLength);
    this.#memory = { address, byteLength };
    this.#calls = places.map((_, index) => new Call(arena.memory.buffer, address + CALL_BYTES * index));
    let sumsAt = address + callBytes;
    this.#sumsAt = sumBytes.map((bytes, index) => {
      const own = sumsAt;
      this.#calls[index]!.setSums(own);
      sumsAt += bytes;
      return own;
    });
  }

  /** The call of a parameter, to be given its weights, gradient and prologue. */
  callOf(index: number): Call {
    return this.#calls[index]!;
  }

  /** Begins a parameter's next step. */
  begin(index: number, lr: number): void {
    const { name, dims, length } = this.#params.places[index]!;
    const count = this.#state.counts[index]! + 1;
    this.#state.counts[index] = count;
    const state = this.#state.places[index]!.views;
    this.#facts[index] = { lr, count, weightDecay: this.#weightDecay.of(name), dims, length, sums: [], state };
  }

  /** Prepares the call of a parameter for a pass of its step: the kernel to run, or null where this step does without it. */
  prepare(index: number, pass: number): Kernel | null {
    const facts = this.#facts[index]!;
    const { kernel, when, scalars } = this.#rule.passes[pass]!;
    if (when && !when(facts)) return null;
    const call = this.#calls[index]!;
    const { addresses } = this.#state.places[index]!;
    const arrays = this.#arrays[pass]!;
    for (let i = 0; i < arrays.length; i++) call.setArray(i, addresses[arrays[i]!]!);
    if (!kernel.byElement) call.setRows(this.#shapes.addresses[index]!, 0);
    call.setScalars(kernel, facts.lr, scalars(facts));
    return kernel;
  }

  /** Takes up what a pass that was run has left: its sums, block by block in order. */
  finish(index: number, { kernel: { sumCount, byElement } }: Pick<Pass, 'kernel'>): void {
    if (sumCount === 0) return;
    const facts = this.#facts[index]!;
    const blocks = byElement ? Math.ceil(facts.length / SUM_BLOCK) : 1;
    const partial = new Float64Array(this.#params.arena.memory.buffer, this.#sumsAt[index], sumCount * blocks);
    const sums = new Array<number>(sumCount).fill(0);
    for (let i = 0; i < partial.length; i++) sums[i % sumCount]! += partial[i]!;
    this.#facts[index] = { ...facts, sums };
  }

  /** Gives the memory back. */
  dispose(): void {
    this.#shapes.dispose();
    this.#params.arena.release(this.#memory.address, this.#memory.byteLength);
  }
}
