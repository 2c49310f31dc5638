import { type RejectionReason, RxgradError } from '../errors.ts';
import { type GradientBatch, placeOf } from '../events.ts';
import { CALL_BYTES, Call } from '../kernels/call.ts';
import { SUM_BLOCK } from '../kernels/kernel.ts';
import { sumOfSquares } from '../kernels/kernels.ts';
import type { Parameters } from '../params/parameters.ts';
import { type TensorLayout, takeIn } from '../payload.ts';
import { clipFactor, type Pending, runOperation } from '../pending.ts';
import type { PerParameter } from '../setting.ts';
import type { Groups } from './groups.ts';
import { OptimizerState } from './optimizer-state.ts';
import { type Plan, type Prologue, planFor, prologueFor, type Refusal, type Run } from './plan.ts';
import type { Pass, Rule, StepFacts } from './rule.ts';
import { Shapes } from './shapes.ts';
import { WeightsUpdate } from './weights-update.ts';

const READER_TIMEOUT_MS = 10_000;

/**
 * The state of one scan, and its step: admit a batch (check it, copy it, square it), then apply it. Nothing here knows of
 * streams. What is refused leaves weights and state untouched.
 */
export class Stepper {
  readonly #params: Parameters;
  readonly #rule: Rule;
  readonly #weightDecay: PerParameter;
  readonly #groups: Groups;
  readonly #state: OptimizerState;
  readonly #shapes: Shapes;
  readonly #call: Call;
  readonly #sums: { readonly address: number; readonly byteLength: number };
  #gradients = { address: 0, byteLength: 0 };
  #steps = 0;

  #layout: TensorLayout | null = null;
  #plan: Plan | Refusal = { runs: [], untouched: [] };
  #pending: Pending | null = null;
  #prologue: Prologue = prologueFor(null);

  #admitted: GradientBatch | null = null;
  #sumOfSquares = 0;
  #admittedMs = 0;

  constructor(params: Parameters, rule: Rule, weightDecay: PerParameter, groups: Groups) {
    const { arena, places } = params;
    this.#params = params;
    this.#rule = rule;
    this.#weightDecay = weightDecay;
    this.#groups = groups;
    this.#state = new OptimizerState(params, rule, (index) => groups.schedules[groups.scheduleIndex(index)]!.lr);
    this.#shapes = new Shapes(params);
    this.#call = new Call(arena.memory.buffer, arena.allocate(CALL_BYTES));
    const sumCount = Math.max(0, ...rule.passes.map(({ kernel }) => kernel.sumCount));
    const byteLength = sumCount * 8 * Math.max(1, ...places.map(({ length }) => Math.ceil(length / SUM_BLOCK)));
    this.#sums = { address: arena.allocate(byteLength), byteLength };
    this.#call.setSums(this.#sums.address);
  }

  get steps(): number {
    return this.#steps;
  }

  /** Takes a batch in: returns why it cannot be applied, or null, after which {@link apply} is due. */
  admit(batch: GradientBatch): RxgradError<RejectionReason> | null {
    const { layout, payload } = batch.message;
    if (layout !== this.#layout) {
      this.#plan = planFor(this.#params, layout, (index) => this.#groups.isFrozen(index));
      this.#layout = layout;
    }
    if (typeof this.#plan === 'function') return this.#plan(placeOf(batch.delivery));
    const start = performance.now();
    this.#makeRoom(layout.roomBytes);
    const sum = takeIn(this.#params.arena, this.#gradients.address, layout, payload);
    // Squares of float32 cannot overflow float64: the sum is finite exactly when every gradient is.
    if (!Number.isFinite(sum)) {
      return new RxgradError('notFinite', { where: placeOf(batch.delivery), parameters: this.#notFinite(layout) });
    }
    this.#admitted = batch;
    this.#sumOfSquares = sum;
    this.#admittedMs = performance.now() - start;
    return null;
  }

  /** Whether the side to be written is still being read. */
  get blocked(): boolean {
    const { leftRight } = this.#params;
    return !leftRight.isFree(leftRight.target);
  }

  /** Resolves when {@link apply} can go on. */
  whenFree(): Promise<void> {
    const { leftRight } = this.#params;
    return leftRight.whenFree(leftRight.target, READER_TIMEOUT_MS);
  }

  /** Applies the admitted batch at the rates of the groups' schedules: one new version. */
  apply(lrs: readonly number[], epoch: number): WeightsUpdate {
    const batch = this.#admitted!;
    this.#admitted = null;
    const start = performance.now();
    const params = this.#params;
    const plan = this.#plan as Plan;
    const { leftRight } = params;
    const side = leftRight.target;
    const from = params.weights[leftRight.latest];
    const to = params.weights[side];
    const base = params.version;

    let clipped = this.#runBefore(batch, from, plan);
    const norm = Math.sqrt(this.#sumOfSquares);
    const fusedNorm = this.#prologue.before.length === 0 ? norm : this.#normNow(batch.message.layout);
    for (const run of plan.runs) {
      const { maxNorm, limit, decay } = this.#prologue.of(run.place.name);
      const scale = clipFactor(fusedNorm, maxNorm);
      clipped ||= scale !== 1;
      this.#call.setPrologue(scale, limit, decay);
      this.#call.setWeights(from + run.place.offset, to + run.place.offset);
      this.#step(run, lrs[this.#groups.scheduleIndex(run.index)]!);
    }
    params.copyLatestTo(side, plan.untouched);
    leftRight.commit(side, base + 1);
    this.#steps += 1;

    const declared = batch.facts.base;
    return new WeightsUpdate(params, {
      version: base + 1,
      step: this.#steps,
      epoch,
      lr: lrs[0]!,
      gradientNorm: norm,
      clipped,
      staleness: declared === undefined ? undefined : base - declared,
      position: batch.delivery?.position ?? null,
      durationMs: this.#admittedMs + performance.now() - start,
    });
  }

  /** Gives the memory back. The stepper must not be used afterwards. */
  dispose(): void {
    const { arena } = this.#params;
    this.#state.dispose();
    this.#shapes.dispose();
    arena.release(this.#gradients.address, this.#gradients.byteLength);
    arena.release(this.#call.address, CALL_BYTES);
    arena.release(this.#sums.address, this.#sums.byteLength);
  }

  /** Runs the rule's passes over one parameter. */
  #step({ index, place: { name, dims, length }, at }: Run, lr: number): void {
    const { addresses, views } = this.#state.places[index]!;
    const { kernels } = this.#params.arena;
    const call = this.#call;
    call.setGradient(this.#gradients.address + at);
    const count = this.#state.counts[index]! + 1;
    this.#state.counts[index] = count;
    let sums: readonly number[] = [];
    for (const pass of this.#rule.passes) {
      const facts: StepFacts = { lr, count, weightDecay: this.#weightDecay.of(name), dims, length, sums, state: views };
      if (pass.when && !pass.when(facts)) continue;
      const { kernel } = pass;
      const blocks = kernel.byElement ? Math.ceil(length / SUM_BLOCK) : 1;
      if (!kernel.byElement) call.setRows(this.#shapes.addresses[index]!, 0);
      for (let i = 0; i < kernel.arrays.length; i++) call.setArray(i, addresses[this.#stateIndex(pass, i)]!);
      call.setScalars(kernel, lr, pass.scalars(facts));
      kernels.run(kernel.name, call.address, 0, length);
      if (kernel.sumCount > 0) sums = this.#addUp(kernel.sumCount, blocks);
    }
  }

  #stateIndex({ kernel }: Pass, array: number): number {
    return this.#rule.state.findIndex(({ name }) => name === kernel.arrays[array]);
  }

  /** Adds up what the blocks left behind, in their order. */
  #addUp(sumCount: number, blocks: number): number[] {
    const partial = new Float64Array(this.#params.arena.memory.buffer, this.#sums.address, sumCount * blocks);
    const sums = new Array<number>(sumCount).fill(0);
    for (let i = 0; i < partial.length; i++) sums[i % sumCount]! += partial[i]!;
    return sums;
  }

  #makeRoom(byteLength: number): void {
    if (byteLength <= this.#gradients.byteLength) return;
    const { arena } = this.#params;
    arena.release(this.#gradients.address, this.#gradients.byteLength);
    this.#gradients = { address: arena.allocate(byteLength), byteLength };
  }

  /** Does the operations that do not fuse with the rule, and tells whether they clipped the global norm. */
  #runBefore(batch: GradientBatch, weights: number, plan: Plan): boolean {
    if (batch.pending !== this.#pending) {
      this.#prologue = prologueFor(batch.pending);
      this.#pending = batch.pending;
    }
    const { before } = this.#prologue;
    if (before.length === 0) return false;
    const { kernels } = this.#params.arena;
    const { layout } = batch.message;
    const addresses = new Map(plan.runs.map(({ place }) => [place.name, weights + place.offset]));
    let clipped = false;
    for (const operation of before) {
      const weightsAt = ({ name }: { readonly name: string }): number | null => addresses.get(name) ?? null;
      const changed = runOperation(kernels, operation, this.#gradients.address, layout, weightsAt);
      clipped ||= changed;
    }
    return clipped;
  }

  #normNow({ elements }: TensorLayout): number {
    return Math.sqrt(sumOfSquares(this.#params.arena.kernels, this.#gradients.address, elements));
  }

  #notFinite({ tensors }: TensorLayout): string {
    const { kernels } = this.#params.arena;
    return tensors
      .filter(({ at, length }) => !Number.isFinite(kernels.sumOfSquares(this.#gradients.address + at, length)))
      .map(({ name }) => `"${name}"`)
      .join(', ');
  }
}
