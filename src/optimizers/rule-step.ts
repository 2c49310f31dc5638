import type { Parameters } from '../params/parameters.ts';
import type { WeightsWriter } from '../params/weights-writer.ts';
import { clipFactor } from '../pending.ts';
import type { Gradients } from './gradients.ts';
import type { Groups } from './groups.ts';
import type { Passes } from './passes.ts';
import type { Plan, Run } from './plan.ts';
import type { Prologue } from './prologue.ts';
import type { Rule } from './rule.ts';
import { Spread, spreadKernel } from './spread.ts';
import type { Work } from './work.ts';

/** Steps parameters by a rule: the fused end of the prologue, then the rule's passes. */
export class RuleStep {
  readonly #rule: Rule;
  readonly #groups: Groups;
  readonly #passes: Passes;
  readonly #gradients: Gradients;
  readonly #work: Work;
  readonly #writer: WeightsWriter;
  readonly #spread: Spread;
  /** Runs whose rows become a dense gradient in this step, and where. */
  #spreading: [Run, number][] = [];

  constructor(
    params: Parameters,
    rule: Rule,
    groups: Groups,
    passes: Passes,
    gradients: Gradients,
    work: Work,
    writer: WeightsWriter,
  ) {
    this.#rule = rule;
    this.#groups = groups;
    this.#passes = passes;
    this.#gradients = gradients;
    this.#work = work;
    this.#writer = writer;
    this.#spread = new Spread(params);
  }

  /** Runs the step at the rates of the groups' schedules. Tells whether the global norm, as it is now, was clipped. */
  *run({ runs }: Plan, prologue: Prologue, norm: number, lrs: readonly number[]): Generator<void, boolean> {
    const clipped = this.#begin(runs, prologue, norm, lrs);
    if (this.#spreading.length > 0) yield;
    this.#readSpread();
    const { passes } = this.#rule;
    for (let number = 0; number < passes.length; number++) {
      const {
        kernel: { sumCount },
      } = passes[number]!;
      const summed: Run[] = [];
      for (const run of runs) {
        const kernel = this.#passes.prepare(run.index, number);
        if (!kernel) continue;
        this.#work.overParameter(kernel, run);
        if (sumCount > 0) summed.push(run);
      }
      yield;
      for (const { index } of summed) this.#passes.finish(index, passes[number]!);
    }
    return clipped;
  }

  /** Gives the memory back. */
  dispose(): void {
    this.#spread.dispose();
  }

  /** Prepares every call: addresses, and the fused end of the prologue. */
  #begin(runs: readonly Run[], prologue: Prologue, norm: number, lrs: readonly number[]): boolean {
    const { from, to } = this.#writer;
    let clipped = false;
    for (const run of runs) {
      const { index, place, at } = run;
      const { maxNorm, limit, decay } = prologue.of(place.name);
      const scale = clipFactor(norm, maxNorm);
      clipped ||= scale !== 1;
      const call = this.#passes.callOf(index);
      call.setPrologue(scale, limit, decay);
      call.setGradient(this.#gradients.address + at);
      call.setWeights(from + place.offset, to + place.offset);
      if (run.rows && !this.#work.byRows(run)) {
        const zeros = this.#spread.zeros(index);
        call.setWeights(from + place.offset, zeros);
        this.#work.overGradients(spreadKernel, run);
        this.#spreading.push([run, zeros]);
      }
      call.resetFinite();
      this.#passes.begin(index, lrs[this.#groups.scheduleIndex(index)]!);
    }
    return clipped;
  }

  /** Goes on with gradients where they were spread, which have their prologue behind them. */
  #readSpread(): void {
    const { from, to } = this.#writer;
    for (const [{ index, place }, gradients] of this.#spreading) {
      const call = this.#passes.callOf(index);
      call.setPrologue(1, Number.POSITIVE_INFINITY, 0);
      call.setGradient(gradients);
      call.setWeights(from + place.offset, to + place.offset);
    }
    this.#spreading = [];
  }
}
