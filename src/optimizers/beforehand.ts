import type { WeightsWriter } from '../params/weights-writer.ts';
import type { TensorLayout } from '../payload.ts';
import { clipFactor, type Operation } from '../pending.ts';
import type { Execution } from './execution.ts';
import type { Gradients } from './gradients.ts';
import type { Passes } from './passes.ts';
import type { Plan } from './plan.ts';
import { preparedKernel } from './prepared.ts';
import type { Work } from './work.ts';

/** Does what stages asked for and what does not fuse with the rule: one operation after the other, over all gradients. */
export class Beforehand {
  readonly #execution: Execution;
  readonly #passes: Passes;
  readonly #gradients: Gradients;
  readonly #work: Work;
  readonly #writer: WeightsWriter;

  constructor(execution: Execution, passes: Passes, gradients: Gradients, work: Work, writer: WeightsWriter) {
    this.#execution = execution;
    this.#passes = passes;
    this.#gradients = gradients;
    this.#work = work;
    this.#writer = writer;
  }

  /** Does the operations, and tells whether they clipped the global norm. */
  *run(operations: readonly Operation[], layout: TensorLayout, plan: Plan): Generator<void, boolean> {
    let clipped = false;
    for (const operation of operations) {
      const norm = operation.op === 'clipByGlobalNorm' ? yield* this.#gradients.norm(layout, this.#execution) : 0;
      clipped = this.#note(operation, norm, plan) || clipped;
      yield;
    }
    return clipped;
  }

  #note(operation: Operation, norm: number, { runs, frozen }: Plan): boolean {
    let clipped = false;
    for (const run of [...runs, ...frozen]) {
      const { index, place, at } = run;
      const call = this.#passes.callOf(index);
      call.setGradient(this.#gradients.address + at);
      call.setWeights(this.#writer.from + place.offset, this.#writer.from + place.offset);
      let [scale, limit, decay] = [1, Number.POSITIVE_INFINITY, 0];
      if (operation.op === 'clipByGlobalNorm') scale = clipFactor(norm, operation.maxNorm.of(place.name));
      else if (operation.op === 'clipByValue') limit = operation.limit.of(place.name);
      else decay = operation.decay.of(place.name);
      call.setPrologue(scale, limit, decay);
      clipped ||= scale !== 1;
      this.#work.overGradients(preparedKernel, run);
    }
    return clipped;
  }
}
