import type { WeightsWriter } from '../params/weights-writer.ts';
import type { TensorLayout } from '../payload.ts';
import { clipFactor, type Operation } from '../pending.ts';
import { stalenessFactor } from '../staleness.ts';
import type { Compensation } from './compensation.ts';
import type { Execution } from './execution.ts';
import type { Gradients } from './gradients.ts';
import type { Passes } from './passes.ts';
import type { Plan } from './plan.ts';
import { preparedKernel } from './prepared.ts';
import type { Work } from './work.ts';

/** What operations did to the gradients: whether anything, and whether they clipped the global norm. */
export interface Done {
  readonly changed: boolean;
  readonly clipped: boolean;
}

export const nothingDone: Done = { changed: false, clipped: false };

/** Does what stages asked for and what does not fuse with the rule: one operation after the other, over all gradients. */
export class Beforehand {
  readonly #execution: Execution;
  readonly #passes: Passes;
  readonly #gradients: Gradients;
  readonly #work: Work;
  readonly #writer: WeightsWriter;
  readonly #compensation: Compensation;

  constructor(
    execution: Execution,
    passes: Passes,
    gradients: Gradients,
    work: Work,
    writer: WeightsWriter,
    compensation: Compensation,
  ) {
    this.#execution = execution;
    this.#passes = passes;
    this.#gradients = gradients;
    this.#work = work;
    this.#writer = writer;
    this.#compensation = compensation;
  }

  /** Does the operations, on gradients of the weights `base` whose global norm it is told. */
  *run(
    operations: readonly Operation[],
    layout: TensorLayout,
    plan: Plan,
    base: number,
    normBefore: number,
  ): Generator<void, Done> {
    let done = nothingDone;
    for (const operation of operations) {
      const measures = operation.op === 'clipByGlobalNorm' && done.changed;
      const norm = measures ? yield* this.#gradients.norm(layout, this.#execution) : normBefore;
      const { changed, clipped } = this.#note(operation, norm, plan, base);
      done = { changed: done.changed || changed, clipped: done.clipped || clipped };
      if (changed) yield;
    }
    return done;
  }

  #note(operation: Operation, norm: number, plan: Plan, base: number): Done {
    switch (operation.op) {
      case 'clipByGlobalNorm': {
        let clipped = false;
        const scaleOf = (name: string): number => {
          const scale = clipFactor(norm, operation.maxNorm.of(name));
          clipped ||= scale !== 1;
          return scale;
        };
        this.#prepare(plan, (name) => [scaleOf(name), Number.POSITIVE_INFINITY, 0]);
        return { changed: true, clipped };
      }
      case 'clipByValue':
        this.#prepare(plan, (name) => [1, operation.limit.of(name), 0]);
        return { changed: true, clipped: false };
      case 'addDecayedWeights':
        this.#prepare(plan, (name) => [1, Number.POSITIVE_INFINITY, operation.decay.of(name)]);
        return { changed: true, clipped: false };
      case 'accumulate':
        return nothingDone;
      case 'staleness':
        return { changed: this.#noteStaleness(operation, plan, base), clipped: false };
    }
  }

  #noteStaleness({ policy }: Operation & { op: 'staleness' }, plan: Plan, base: number): boolean {
    const staleness = this.#writer.version - base;
    if (policy.type === 'scale' && staleness > 0) {
      const factor = stalenessFactor(staleness);
      this.#prepare(plan, () => [factor, Number.POSITIVE_INFINITY, 0]);
      return true;
    }
    if (policy.type !== 'compensate') return false;
    for (const { index, at } of plan.runs) this.#passes.callOf(index).setGradient(this.#gradients.address + at);
    return this.#compensation.note(policy, base, plan.runs, this.#work, this.#passes, this.#writer);
  }

  /** Notes a kernel's prologue alone, over all gradients: scale, limit and decay of each parameter. */
  #prepare({ runs, frozen }: Plan, settingsOf: (name: string) => [scale: number, limit: number, decay: number]): void {
    for (const run of [...runs, ...frozen]) {
      const { index, place, at } = run;
      const call = this.#passes.callOf(index);
      call.setGradient(this.#gradients.address + at);
      call.setWeights(this.#writer.from + place.offset, this.#writer.from + place.offset);
      // biome-ignore lint/plugin: three numbers.
      call.setPrologue(...settingsOf(place.name));
      this.#work.overGradients(preparedKernel, run);
    }
  }
}
