import { type RejectionReason, RxgradError } from '../errors.ts';
import { type GradientBatch, placeOf } from '../events.ts';
import type { Call } from '../kernels/call.ts';
import type { Kernel } from '../kernels/kernel.ts';
import type { Side } from '../params/left-right.ts';
import type { Parameters } from '../params/parameters.ts';
import type { KeptState, StateTensor } from '../params/state-dict.ts';
import type { TakenIn, TensorLayout } from '../payload.ts';
import { clipFactor, type Operation, type Pending } from '../pending.ts';
import type { PerParameter } from '../setting.ts';
import type { Execution } from './execution.ts';
import { Gradients } from './gradients.ts';
import type { Groups } from './groups.ts';
import { OptimizerState } from './optimizer-state.ts';
import { Passes, type Ready } from './passes.ts';
import { type Plan, type Prologue, planFor, prologueFor, type Refusal, type Run, refuseRows } from './plan.ts';
import { copiedKernel, preparedKernel } from './prepared.ts';
import { type Rule, stepsRows } from './rule.ts';
import { Spread, spreadKernel } from './spread.ts';
import { WeightsUpdate } from './weights-update.ts';

const READER_TIMEOUT_MS = 10_000;

/**
 * The state of one scan, and its step: admit a batch (check it, copy it, square it), then apply it. Both are generators: where
 * they yield, the kernels that they noted have to be run, and others may have their turn. Nothing here knows of streams. What
 * is refused leaves weights and state untouched.
 */
export class Stepper {
  readonly #params: Parameters;
  readonly #rule: Rule;
  readonly #groups: Groups;
  readonly #execution: Execution;
  readonly #state: OptimizerState;
  readonly #passes: Passes;
  readonly #gradients: Gradients;
  readonly #spread: Spread;
  readonly #stepsRows: boolean;
  #steps = 0;

  #layout: TensorLayout | null = null;
  #plan: Plan | Refusal = { runs: [], frozen: [], untouched: [] };
  #pending: Pending | null = null;
  #prologue: Prologue = prologueFor(null);

  #admitted: GradientBatch | null = null;
  #taken: TakenIn = { sumOfSquares: 0, rows: null };
  #admittedMs = 0;

  constructor(params: Parameters, rule: Rule, weightDecay: PerParameter, groups: Groups, execution: Execution) {
    this.#params = params;
    this.#rule = rule;
    this.#groups = groups;
    this.#execution = execution;
    this.#state = new OptimizerState(params, rule, (index) => groups.schedules[groups.scheduleIndex(index)]!.lr);
    this.#passes = new Passes(params, rule, weightDecay, this.#state);
    this.#gradients = new Gradients(params);
    this.#spread = new Spread(params);
    this.#stepsRows = stepsRows(rule);
  }

  get steps(): number {
    return this.#steps;
  }

  /** Takes a batch in: returns why it cannot be applied, or null, after which {@link apply} is due. */
  *admit(batch: GradientBatch): Generator<void, RxgradError<RejectionReason> | null> {
    const { layout, payload } = batch.message;
    if (layout !== this.#layout) {
      this.#plan = planFor(this.#params, layout, (index) => this.#groups.isFrozen(index));
      this.#layout = layout;
    }
    if (typeof this.#plan === 'function') return this.#plan(placeOf(batch.delivery));
    const start = performance.now();
    const taken = yield* this.#gradients.takeIn(layout, payload);
    // Squares of float32 cannot overflow float64: the sum is finite exactly when every gradient is.
    if (!Number.isFinite(taken.sumOfSquares)) {
      const parameters = this.#gradients.notFinite(layout).map((name) => `"${name}"`);
      return new RxgradError('notFinite', { where: placeOf(batch.delivery), parameters: parameters.join(', ') });
    }
    const refusal = refuseRows(this.#plan, taken);
    if (refusal) return refusal(placeOf(batch.delivery));
    this.#admitted = batch;
    this.#taken = taken;
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
  *apply(lrs: readonly number[], epoch: number): Generator<void, WeightsUpdate> {
    const batch = this.#admitted!;
    this.#admitted = null;
    const start = performance.now();
    const { layout } = batch.message;
    const { leftRight, version: base } = this.#params;
    const side = leftRight.target;

    let clipped = yield* this.#before(batch);
    const norm = Math.sqrt(this.#taken.sumOfSquares);
    const normNow = this.#prologue.before.length === 0 ? norm : yield* this.#gradients.norm(layout, this.#execution);
    yield* this.#catchUp(side);
    clipped = (yield* this.#begin(side, normNow, lrs)) || clipped;
    yield* this.#runPasses();
    this.#noteDifferences(side);
    leftRight.commit(side, base + 1);
    this.#steps += 1;

    const declared = batch.facts.base;
    return new WeightsUpdate(this.#params, {
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

  /** The tensors of the rule's state: views. */
  get tensors(): StateTensor[] {
    return this.#state.tensors();
  }

  /** How often each parameter was stepped. */
  get counts(): number[] {
    return [...this.#state.counts];
  }

  /** Goes on from what was kept: all of it where it was a scan's own, else the tensors. */
  restore(kept: KeptState, steps: number, counts: readonly number[] | null): void {
    this.#state.restore(kept);
    if (counts) this.#state.counts.set(counts);
    this.#steps = steps;
  }

  /** Gives the memory back. The stepper must not be used afterwards. */
  dispose(): void {
    this.#state.dispose();
    this.#passes.dispose();
    this.#gradients.dispose();
    this.#spread.dispose();
  }

  /** Brings what the step does not write whole up to date, where it writes the other side. */
  *#catchUp(side: Side): Generator<void, void> {
    const { weights, leftRight, differences } = this.#params;
    const from = weights[leftRight.latest];
    const to = weights[side];
    if (from === to) return;
    const { runs, untouched } = this.#plan as Plan;
    let noted = false;
    for (const { index, place } of [...untouched, ...runs.filter((run) => this.#byRows(run))]) {
      const { whole, address, count } = differences.of(index);
      const call = this.#passes.callOf(index);
      call.setWeights(from + place.offset, to + place.offset);
      if (whole) this.#execution.add(copiedKernel, call.address, place.length);
      else if (count > 0) this.#addRows(copiedKernel, call, address, count, place.length / place.dims[0]!);
      noted ||= whole || count > 0;
    }
    if (noted) yield;
  }

  #noteDifferences(side: Side): void {
    const { leftRight, differences } = this.#params;
    if (side !== leftRight.latest) differences.clear();
    for (const run of (this.#plan as Plan).runs) {
      if (this.#byRows(run)) differences.addRows(run.index, this.#gradients.address + run.rows!.at, this.#countOf(run));
      else differences.add(run.index);
    }
  }

  /** Prepares every call of the step: addresses, and the fused end of the prologue. Tells whether the norm was clipped. */
  *#begin(side: Side, norm: number, lrs: readonly number[]): Generator<void, boolean> {
    const { weights, leftRight } = this.#params;
    const from = weights[leftRight.latest];
    const to = weights[side];
    const { runs } = this.#plan as Plan;
    const spread: [Run, number][] = [];
    let clipped = false;
    for (const run of runs) {
      const { index, place, at } = run;
      const { maxNorm, limit, decay } = this.#prologue.of(place.name);
      const scale = clipFactor(norm, maxNorm);
      clipped ||= scale !== 1;
      const call = this.#passes.callOf(index);
      call.setPrologue(scale, limit, decay);
      call.setGradient(this.#gradients.address + at);
      call.setWeights(from + place.offset, to + place.offset);
      if (run.rows && !this.#stepsRows) {
        const zeros = this.#spread.zeros(index);
        call.setWeights(from + place.offset, zeros);
        this.#note(spreadKernel, run);
        spread.push([run, zeros]);
      }
      this.#passes.begin(index, lrs[this.#groups.scheduleIndex(index)]!);
    }
    if (spread.length > 0) yield;
    for (const [{ index, place }, gradients] of spread) {
      const call = this.#passes.callOf(index);
      call.setPrologue(1, Number.POSITIVE_INFINITY, 0);
      call.setGradient(gradients);
      call.setWeights(from + place.offset, to + place.offset);
    }
    return clipped;
  }

  /** Whether a run touches some rows only. */
  #byRows({ rows }: Run): boolean {
    return rows !== null && this.#stepsRows;
  }

  #countOf({ rows }: Run): number {
    return this.#taken.rows![rows!.tensor]!.count;
  }

  /** Notes a kernel over the gradients of a run: all elements, or the rows that are there. */
  #note(kernel: Kernel, run: Run): void {
    const { index, place, rows } = run;
    const call = this.#passes.callOf(index);
    if (!rows) this.#execution.add(kernel, call.address, place.length);
    else this.#addRows(kernel, call, this.#gradients.address + rows.at, this.#countOf(run), rows.width);
  }

  #addRows({ name }: Kernel, call: Call, rows: number, count: number, width: number): void {
    call.setRows(rows, width);
    this.#execution.add({ name: `${name}Rows`, byElement: true }, call.address, count, width);
  }

  /** Runs the rule's passes, each over all parameters. */
  *#runPasses(): Generator<void, void> {
    const { runs } = this.#plan as Plan;
    for (const [number, pass] of this.#rule.passes.entries()) {
      const due: Run[] = [];
      for (const run of runs) {
        const ready: Ready | null = this.#passes.prepare(run.index, number);
        if (!ready) continue;
        if (this.#byRows(run)) this.#note(ready.kernel, run);
        else this.#execution.add(ready.kernel, ready.call.address, run.place.length);
        due.push(run);
      }
      yield;
      for (const { index } of due) this.#passes.finish(index, pass);
    }
  }

  /** Does the operations that do not fuse with the rule, and tells whether they clipped the global norm. */
  *#before(batch: GradientBatch): Generator<void, boolean> {
    if (batch.pending !== this.#pending) {
      this.#prologue = prologueFor(batch.pending);
      this.#pending = batch.pending;
    }
    let clipped = false;
    for (const operation of this.#prologue.before) {
      const isClip = operation.op === 'clipByGlobalNorm';
      const norm = isClip ? yield* this.#gradients.norm(batch.message.layout, this.#execution) : 0;
      clipped = this.#noteOperation(operation, norm) || clipped;
      yield;
    }
    return clipped;
  }

  #noteOperation(operation: Operation, norm: number): boolean {
    const { runs, frozen } = this.#plan as Plan;
    const { weights, leftRight } = this.#params;
    const from = weights[leftRight.latest];
    let clipped = false;
    for (const run of [...runs, ...frozen]) {
      const { index, place, at } = run;
      const call = this.#passes.callOf(index);
      call.setGradient(this.#gradients.address + at);
      call.setWeights(from + place.offset, from + place.offset);
      let [scale, limit, decay] = [1, Number.POSITIVE_INFINITY, 0];
      if (operation.op === 'clipByGlobalNorm') scale = clipFactor(norm, operation.maxNorm.of(place.name));
      else if (operation.op === 'clipByValue') limit = operation.limit.of(place.name);
      else decay = operation.decay.of(place.name);
      call.setPrologue(scale, limit, decay);
      clipped ||= scale !== 1;
      this.#note(preparedKernel, run);
    }
    return clipped;
  }
}
