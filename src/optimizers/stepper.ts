import { type RejectionReason, RxgradError } from '../errors.ts';
import { type GradientBatch, placeOf } from '../events.ts';
import { copyAndSquare } from '../kernels/kernels.ts';
import type { Parameters } from '../params/parameters.ts';
import type { Weights } from '../params/weights-reader.ts';
import { clipFactor, type Pending, runOperation, type TensorLayout } from '../pending.ts';
import { type Plan, type Prologue, planFor, prologueFor, type Refusal } from './plan.ts';
import type { FusedPrologue, Rule, StepAddresses } from './rule.ts';
import { WeightsUpdate } from './weights-update.ts';

const READER_TIMEOUT_MS = 10_000;

/**
 * The state of one scan, and its step: admit a batch (check it, copy it, square it), then apply it. Nothing here knows of
 * streams. What is refused leaves weights and state untouched.
 */
export class Stepper {
  readonly #params: Parameters;
  readonly #rule: Rule;
  readonly #gradients: number;
  readonly #state: readonly number[];
  /** Steps by parameter, in the order of the places. */
  readonly #counts: Float64Array;
  readonly #addresses: StepAddresses;
  readonly #fused: FusedPrologue = { scale: 1, limit: Number.POSITIVE_INFINITY, decay: 0 };
  #steps = 0;

  #layout: TensorLayout | null = null;
  #plan: Plan | Refusal = { runs: [], untouched: [] };
  #pending: Pending | null = null;
  #prologue: Prologue = prologueFor(null);

  #admitted: GradientBatch | null = null;
  #sumOfSquares = 0;
  #admittedMs = 0;

  constructor(params: Parameters, rule: Rule) {
    this.#params = params;
    this.#rule = rule;
    this.#gradients = params.arena.allocate(params.byteLength);
    this.#state = rule.state.map(() => params.arena.allocate(params.byteLength));
    this.#counts = new Float64Array(params.places.length);
    this.#addresses = { w: 0, out: 0, g: 0, length: 0, state: this.#state.map(() => 0) };
  }

  get steps(): number {
    return this.#steps;
  }

  /** The rule's buffers by name, each by parameter: views, lent until the next step. */
  get state(): Readonly<Record<string, Weights>> {
    return Object.fromEntries(this.#rule.state.map((name, i) => [name, this.#params.viewsOf(this.#state[i]!)]));
  }

  /** Takes a batch in: returns why it cannot be applied, or null, after which {@link apply} is due. */
  admit(batch: GradientBatch): RxgradError<RejectionReason> | null {
    const { layout, payload } = batch.message;
    if (layout !== this.#layout) {
      this.#plan = planFor(this.#params, layout);
      this.#layout = layout;
    }
    if (typeof this.#plan === 'function') return this.#plan(placeOf(batch.delivery));
    const start = performance.now();
    const { arena } = this.#params;
    const sum = copyAndSquare(arena.kernels, arena.bytes, this.#gradients, payload);
    // Squares of float32 cannot overflow float64: the sum is finite exactly when every gradient is.
    if (!Number.isFinite(sum)) {
      return new RxgradError('notFinite', { where: placeOf(batch.delivery), parameters: this.#notFinite(this.#plan) });
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

  /** Applies the admitted batch: one new version. */
  apply(lr: number, epoch: number): WeightsUpdate {
    const batch = this.#admitted!;
    this.#admitted = null;
    const start = performance.now();
    const params = this.#params;
    const plan = this.#plan as Plan;
    const { arena, leftRight } = params;
    const side = leftRight.target;
    const from = params.weights[leftRight.latest];
    const to = params.weights[side];
    const base = params.version;

    const norm = Math.sqrt(this.#sumOfSquares);
    const clipped = this.#prepare(batch, norm, from, plan);
    const at = this.#addresses;
    for (const { index, place, gradient } of plan.runs) {
      at.w = from + place.offset;
      at.out = to + place.offset;
      at.g = this.#gradients + gradient;
      at.length = place.length;
      for (let i = 0; i < at.state.length; i++) at.state[i] = this.#state[i]! + place.offset;
      const count = ++this.#counts[index]!;
      this.#rule.apply(arena.kernels, at, this.#fused, lr, count);
    }
    params.copyLatestTo(side, plan.untouched);
    leftRight.commit(side, base + 1);
    this.#steps += 1;

    const declared = batch.facts.base;
    return new WeightsUpdate(params, {
      version: base + 1,
      step: this.#steps,
      epoch,
      lr,
      gradientNorm: norm,
      clipped,
      staleness: declared === undefined ? undefined : base - declared,
      position: batch.delivery?.position ?? null,
      durationMs: this.#admittedMs + performance.now() - start,
    });
  }

  /** Gives the memory back. The stepper must not be used afterwards. */
  dispose(): void {
    const { arena, byteLength } = this.#params;
    arena.release(this.#gradients, byteLength);
    for (const address of this.#state) arena.release(address, byteLength);
  }

  /** Readies what comes before the rule, and tells whether the global norm was clipped. */
  #prepare(batch: GradientBatch, norm: number, weights: number, plan: Plan): boolean {
    if (batch.pending !== this.#pending) {
      this.#prologue = prologueFor(batch.pending);
      this.#pending = batch.pending;
    }
    const { maxNorm, limit, decay, others } = this.#prologue;
    this.#fused.scale = clipFactor(norm, maxNorm);
    this.#fused.limit = limit;
    this.#fused.decay = decay;
    if (!others) return this.#fused.scale !== 1;
    const { layout } = batch.message;
    const addresses = new Map(plan.runs.map(({ place }) => [place.name, weights + place.offset]));
    let clipped = false;
    for (const operation of others) {
      const changed = runOperation(
        this.#params.arena.kernels,
        operation,
        this.#gradients,
        layout,
        ({ name }) => addresses.get(name)!,
      );
      clipped ||= changed;
    }
    return clipped;
  }

  #notFinite(plan: Plan): string {
    const { kernels } = this.#params.arena;
    return plan.runs
      .filter(({ place, gradient }) => !Number.isFinite(kernels.sumOfSquares(this.#gradients + gradient, place.length)))
      .map(({ place }) => `"${place.name}"`)
      .join(', ');
  }
}
