import type { Call } from '../kernels/call.ts';
import type { Kernel } from '../kernels/kernel.ts';
import type { Written } from '../params/differences.ts';
import type { WeightsWriter } from '../params/weights-writer.ts';
import type { TakenIn } from '../payload.ts';
import type { Execution } from './execution.ts';
import type { Gradients } from './gradients.ts';
import type { Passes } from './passes.ts';
import type { Run } from './plan.ts';
import { copiedKernel } from './prepared.ts';

/** Elements in a row that take as long as the wait for a row that is in no cache. */
const COLD_ROW = 128;

/** Notes the kernels of a step, over whole parameters or over the rows of them that the batch has. */
export class Work {
  readonly #execution: Execution;
  readonly #passes: Passes;
  readonly #gradients: Gradients;
  readonly #stepsRows: boolean;
  /** What the batch came to. */
  taken: TakenIn = { sumOfSquares: 0, rows: null };

  constructor(execution: Execution, passes: Passes, gradients: Gradients, stepsRows: boolean) {
    this.#execution = execution;
    this.#passes = passes;
    this.#gradients = gradients;
    this.#stepsRows = stepsRows;
  }

  /** Whether the step touches some rows only. */
  byRows({ rows }: Run): boolean {
    return rows !== null && this.#stepsRows;
  }

  /** Where the row numbers of a run lie, as int32, and how many there are. */
  rowsOf({ rows }: Run): { readonly address: number; readonly count: number } {
    return { address: this.#gradients.address + rows!.at, count: this.taken.rows![rows!.tensor]!.count };
  }

  /** Over the gradients of a run: all elements, or the rows that are there. */
  overGradients(kernel: Kernel, run: Run): void {
    if (!run.rows) this.overAll(kernel, run);
    else this.#overRows(kernel, this.#passes.callOf(run.index), this.rowsOf(run), run.rows.width);
  }

  /** Over what the step touches: the rows that are there where it goes by rows, else all of the parameter. */
  overParameter(kernel: Kernel, run: Run): void {
    if (this.byRows(run)) this.overGradients(kernel, run);
    else this.overAll(kernel, run);
  }

  /** Notes what the step wrote: rows where it goes by rows, else whole parameters. */
  noteWritten(written: Written, runs: readonly Run[]): void {
    for (const run of runs) {
      if (!this.byRows(run)) {
        written.add(run.index);
        continue;
      }
      const { address, count } = this.rowsOf(run);
      written.addRows(run.index, address, count);
    }
  }

  /** Copies weights of a parameter from one address to another. */
  copy({ index, place }: Pick<Run, 'index' | 'place'>, from: number, to: number): void {
    const call = this.#passes.callOf(index);
    call.setWeights(from, to);
    this.overAll(copiedKernel, { index, place });
  }

  /** Copies what a writer's side lacks of some parameters. Tells whether it lacked anything. */
  catchUp(writer: WeightsWriter, parameters: Iterable<Pick<Run, 'index' | 'place'>>): boolean {
    let noted = false;
    for (const { index, place } of parameters) {
      const lack = writer.lack(index);
      if (!lack) continue;
      const [from, to] = [writer.from + place.offset, writer.to + place.offset];
      if (lack.whole) this.copy({ index, place }, from, to);
      else this.copyRows({ index, place }, from, to, lack);
      noted = true;
    }
    return noted;
  }

  /** Copies rows of a table. */
  copyRows(
    { index, place }: Pick<Run, 'index' | 'place'>,
    from: number,
    to: number,
    rows: { readonly address: number; readonly count: number },
  ): void {
    const call = this.#passes.callOf(index);
    call.setWeights(from, to);
    this.#overRows(copiedKernel, call, rows, place.length / place.dims[0]!);
  }

  /** Over all elements of a parameter. */
  overAll(kernel: Kernel, { index, place }: Pick<Run, 'index' | 'place'>): void {
    this.#execution.add(kernel, this.#passes.callOf(index).address, place.length);
  }

  #overRows({ name }: Kernel, call: Call, rows: { readonly address: number; readonly count: number }, width: number): void {
    call.setRows(rows.address, width);
    this.#execution.add({ name: `${name}Rows`, byElement: true }, call.address, rows.count, Math.max(width, COLD_ROW));
  }
}
