import { assertNoDifferences, type RejectionReason, type RxgradError } from '../errors.ts';
import { type GradientBatch, placeOf } from '../events.ts';
import type { Parameters } from '../params/parameters.ts';
import type { KeptState, StateTensor } from '../params/state-dict.ts';
import { WeightsWriter } from '../params/weights-writer.ts';
import { refuseNorm, refuseNotFinite, type TakenIn, type TensorLayout } from '../payload.ts';
import { operationsOf, type Pending } from '../pending.ts';
import type { PerParameter } from '../setting.ts';
import { refuseStale } from '../staleness.ts';
import type { Average } from './average.ts';
import { Beforehand, nothingDone } from './beforehand.ts';
import { Compensation } from './compensation.ts';
import type { Execution } from './execution.ts';
import { Gradients } from './gradients.ts';
import type { Groups } from './groups.ts';
import { OptimizerState } from './optimizer-state.ts';
import type { Outliers } from './outliers.ts';
import { Passes } from './passes.ts';
import { type Plan, planFor, type Refusal, refuseRows } from './plan.ts';
import { type Prologue, prologueFor } from './prologue.ts';
import { type StageRecipe, stageDifferences, stagesOf } from './recipe.ts';
import { type Rule, stepsRows } from './rule.ts';
import { RuleStep } from './rule-step.ts';
import type { StepperFacts } from './scan-facts.ts';
import { refuseShare } from './shards.ts';
import { WeightsUpdate } from './weights-update.ts';
import { Work } from './work.ts';

/** A batch that is being taken in before its turn. */
interface Ahead {
  readonly batch: GradientBatch;
  readonly taking: Generator<void, TakenIn>;
  taken: TakenIn | null;
}

/**
 * The state of one scan, and its step: admit a batch (check it, copy it, square it), then apply it. Both are generators: where
 * they yield, the kernels that they noted have to be run, and others may have their turn. Nothing here knows of streams. What
 * is refused leaves weights and state untouched.
 */
export class Stepper {
  readonly #params: Parameters;
  readonly #groups: Groups;
  readonly #execution: Execution;
  readonly #state: OptimizerState;
  readonly #passes: Passes;
  readonly #gradients: Gradients;
  readonly #writer: WeightsWriter;
  readonly #work: Work;
  readonly #compensation: Compensation;
  readonly #beforehand: Beforehand;
  readonly #ruleStep: RuleStep;
  readonly #average: Average | null;
  readonly #outliers: Outliers | null;
  #steps = 0;

  #layout: TensorLayout | null = null;
  #plan: Plan | Refusal = { runs: [], frozen: [], untouched: [] };
  #pending: Pending | null = null;
  #prologue: Prologue = prologueFor(null);
  /** What the first batch must have come through, where the scan goes on exactly as another. */
  #expected: readonly StageRecipe[] | null = null;

  #admitted: GradientBatch | null = null;
  /** What comes next, while it is being taken in. */
  #ahead: Ahead | null = null;
  #admittedMs = 0;

  constructor(
    params: Parameters,
    rule: Rule,
    weightDecay: PerParameter,
    groups: Groups,
    execution: Execution,
    average: Average | null,
    outliers: Outliers | null,
  ) {
    this.#params = params;
    this.#groups = groups;
    this.#execution = execution;
    this.#average = average;
    this.#outliers = outliers;
    this.#state = new OptimizerState(params, rule, (index) => groups.schedules[groups.scheduleIndex(index)]!.lr);
    this.#passes = new Passes(params, rule, weightDecay, this.#state);
    this.#gradients = new Gradients(params);
    this.#writer = new WeightsWriter(params);
    this.#work = new Work(execution, this.#passes, this.#gradients, stepsRows(rule));
    this.#ruleStep = new RuleStep(params, rule, groups, this.#passes, this.#gradients, this.#work, this.#writer);
    this.#compensation = new Compensation(params);
    this.#beforehand = new Beforehand(execution, this.#passes, this.#gradients, this.#work, this.#writer, this.#compensation);
  }

  /** Takes a batch in: returns why it cannot be applied, or null, after which {@link apply} is due. */
  *admit(batch: GradientBatch): Generator<void, RxgradError<RejectionReason> | null> {
    const { layout, payload, facts } = batch.message;
    if (layout !== this.#layout) {
      this.#plan = planFor(this.#params, layout, (index) => this.#groups.isFrozen(index));
      this.#layout = layout;
    }
    if (batch.pending !== this.#pending) {
      this.#prologue = prologueFor(batch.pending);
      this.#pending = batch.pending;
    }
    if (this.#expected) {
      assertNoDifferences(stageDifferences(this.#expected, stagesOf(operationsOf(batch.pending))));
      this.#expected = null;
    }
    const where = () => placeOf(batch.delivery);
    if (typeof this.#plan === 'function') return this.#plan(where());
    const share = refuseShare(this.#params, this.#prologue, batch);
    if (share) return share(where());
    const { version } = this.#params;
    const stale = refuseStale(this.#prologue.staleness, facts, version, this.#compensation.oldest, where);
    if (stale) return stale;
    const start = performance.now();
    const ahead = this.#ahead?.batch === batch ? this.#ahead : null;
    this.#ahead = null;
    const taken = ahead
      ? (ahead.taken ?? (yield* ahead.taking))
      : yield* this.#gradients.takeIn(layout, payload, this.#execution);
    if (ahead) this.#gradients.turn();
    const refusal =
      refuseNotFinite(this.#params.arena, this.#gradients.address, layout, taken) ??
      refuseRows(this.#plan, taken) ??
      refuseNorm(facts.norm, layout, taken) ??
      this.#outliers?.admit(facts.norm, taken.sumOfSquares);
    if (refusal) return refusal(where());
    this.#admitted = batch;
    this.#work.taken = taken;
    this.#admittedMs = performance.now() - start;
    return null;
  }

  /**
   * Takes in the batch that is to be admitted next, while a step is under way; yields now and then. Whoever drives it may stop
   * at any time.
   */
  *takeAhead(batch: GradientBatch): Generator<void, void> {
    const { layout, payload } = batch.message;
    if (layout !== this.#layout) return;
    const ahead: Ahead = { batch, taking: this.#gradients.takeAside(layout, payload), taken: null };
    this.#ahead = ahead;
    // Once it is admitted, the rest is done there.
    while (this.#ahead === ahead && !ahead.taken) {
      const { done, value } = ahead.taking.next();
      if (done) ahead.taken = value;
      else yield;
    }
  }

  /** Whether what comes next is being taken in, or is already. */
  get isAhead(): boolean {
    return this.#ahead !== null;
  }

  /** Whether what is to be written is still being read. */
  get blocked(): boolean {
    return this.#params.seat.held !== null || this.#writer.blocked || (this.#average?.blocked ?? false);
  }

  /** Resolves when {@link apply} can go on. */
  async whenFree(): Promise<void> {
    await this.#params.seat.held;
    await this.#writer.whenFree();
    await this.#average?.whenFree();
  }

  /** Applies the admitted batch at the rates of the groups' schedules: one new version. */
  *apply(lrs: readonly number[], epoch: number): Generator<void, WeightsUpdate> {
    const batch = this.#admitted!;
    this.#admitted = null;
    const start = performance.now();
    const { layout, facts } = batch.message;
    const { version: base } = this.#params;
    const plan = this.#plan as Plan;
    const declared = facts.base;
    const norm = facts.norm ?? Math.sqrt(this.#work.taken.sumOfSquares);

    this.#writer.begin();
    const { before, compensate } = this.#prologue;
    const done = before.length > 0 ? yield* this.#beforehand.run(before, layout, plan, declared ?? base, norm) : nothingDone;
    const normNow = done.changed ? yield* this.#gradients.norm(layout, this.#execution) : norm;
    if (compensate) {
      this.#compensation.keep(compensate, plan.runs, this.#work, this.#writer);
      yield;
    }
    if (!this.#writer.inPlace && this.#catchUp(plan)) yield;
    const clipped = yield* this.#ruleStep.run(plan, this.#prologue, normNow, lrs);
    const { finiteness, origins } = this.#params;
    for (const run of plan.runs) finiteness.note(run.index, this.#passes.callOf(run.index).finite, !this.#work.byRows(run));
    const position = batch.delivery?.position ?? null;
    const origin = origins.of(position);
    if (this.#average) {
      yield* this.#average.follow(plan, this.#state.counts, this.#writer.to, this.#work, this.#passes);
      this.#average.commit(base + 1, position, this.#work, this.#passes);
    }
    this.#writer.commit(base + 1, origin, (written) => this.#work.noteWritten(written, plan.runs));
    this.#steps += 1;
    const outlier = this.#outliers?.applied();

    return new WeightsUpdate(this.#params, this.#average?.params ?? null, {
      version: base + 1,
      step: this.#steps,
      epoch,
      lr: lrs[0]!,
      gradientNorm: norm,
      clipped: clipped || done.clipped,
      staleness: declared === undefined ? undefined : base - declared,
      outlier,
      position,
      durationMs: this.#admittedMs + performance.now() - start,
    });
  }

  /** The tensors of the rule's state: views. */
  get tensors(): StateTensor[] {
    return [...this.#state.tensors(), ...this.#compensation.tensors(), ...(this.#average?.tensors() ?? [])];
  }

  get facts(): StepperFacts {
    const history = this.#compensation.facts();
    return {
      steps: this.#steps,
      counts: [...this.#state.counts],
      ...this.#stages(),
      ...(history.versions.length > 0 ? { history } : {}),
      ...(this.#outliers ? { norms: this.#outliers.state() } : {}),
      ...(this.#average ? { averaged: [...this.#average.counts] } : {}),
    };
  }

  /** The stages in front: those that are expected, or that batches come through; not known where none has come since others may be. */
  #stages(): Pick<StepperFacts, 'stages'> {
    if (this.#expected) return { stages: [...this.#expected] };
    return this.#steps > 0 && this.#layout ? { stages: stagesOf(operationsOf(this.#pending)) } : {};
  }

  /** Goes on from what was kept: all of it where it was a scan's own, else the tensors. */
  restore({ tensors, strict, exact }: KeptState, facts: StepperFacts | null): void {
    let others = tensors;
    if (facts?.history) others = this.#compensation.restore({ tensors: others, strict }, facts.history);
    if (facts?.averaged && this.#average) {
      others = this.#average.restore({ tensors: others, strict }, facts.averaged, this.#params.version);
    }
    this.#state.restore({ tensors: others, strict });
    if (!facts) return;
    this.#state.counts.set(facts.counts);
    this.#steps = facts.steps;
    if (facts.norms) this.#outliers?.restore(facts.norms);
    if (exact) this.#expected = facts.stages ?? null;
  }

  /** Gives the memory back. The stepper must not be used afterwards. */
  dispose(): void {
    this.#state.dispose();
    this.#passes.dispose();
    this.#gradients.dispose();
    this.#ruleStep.dispose();
    this.#compensation.dispose();
  }

  /** Brings what the step does not write whole up to date on the side that it writes. Tells whether that lacked anything. */
  #catchUp({ runs, untouched }: Plan): boolean {
    const partly = runs.filter((run) => this.#work.byRows(run));
    return this.#work.catchUp(this.#writer, [...untouched, ...partly]);
  }
}
