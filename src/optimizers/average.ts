import * as v from 'valibot';
import { RxgradError } from '../errors.ts';
import { add, kernel, mul, sub } from '../kernels/kernel.ts';
import { fraction } from '../options.ts';
import { Parameters } from '../params/parameters.ts';
import type { StateTensor } from '../params/state-dict.ts';
import { WeightsWriter } from '../params/weights-writer.ts';
import { type PerParameter, parseSetting, type Setting } from '../setting.ts';
import { matching } from './groups.ts';
import type { Passes } from './passes.ts';
import type { Plan, Run } from './plan.ts';
import type { Work } from './work.ts';

/** An average of the weights, which is served in their place while they go on being trained. */
export interface AverageOptions {
  /** What takes the average. The trained parameters are a twin of it: `params.twin()`. */
  readonly into: Parameters;
  /**
   * Share of the average that stays with each step of a parameter, 0 to 1 (exponential moving average); 0 for weights that
   * are served as they are. Default: the equal mean of all steps (Polyak and Ruppert).
   */
  readonly decay?: Setting;
  /** Steps of a parameter before its average begins; until then it is the newest weights. Default 0. */
  readonly after?: number;
}

/** The schema of {@link AverageOptions}. */
export const averageSchema = v.strictObject({
  into: v.custom<Parameters>((value) => value instanceof Parameters, 'Parameters'),
  decay: v.optional(v.custom<Setting>(() => true)),
  after: v.optional(v.pipe(v.number(), v.safeInteger('a whole number'), v.minValue(0)), 0),
});

export const averagedKernel = kernel(
  'averaged',
  { arrays: ['newest'], scalars: ['share'], prologue: false },
  ({ w, newest, share }) => ({ w: add(w, mul(share, sub(newest, w))) }),
);

const KEY = 'average';

/**
 * Follows trained weights with their average, step by step: a ← a + s (θ − a), where s is 1 − decay, or 1 / n in the n-th step of
 * an equal mean; the first step copies them.
 *
 * Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging" (1992); torch.optim.swa_utils.AveragedModel.
 */
export class Average {
  readonly params: Parameters;
  readonly #decay: PerParameter | null;
  readonly #after: number;
  readonly #writer: WeightsWriter;
  /** How many steps of each parameter are in its average. */
  readonly #counts: number[];
  /** Whether what was not stepped yet is the same on both sides. */
  #begun = false;
  #wholes: number[] = [];
  #byRows: Run[] = [];

  constructor(trained: Parameters, { into, decay, after }: v.InferOutput<typeof averageSchema>) {
    assertTwins(trained, into);
    this.params = into;
    this.#decay = decay === undefined ? null : parseSetting(fraction, decay, 'average.decay', 0);
    for (const pattern of this.#decay?.patterns ?? []) matching(trained, pattern, 'average.decay');
    this.#after = after;
    this.#writer = new WeightsWriter(into);
    this.#counts = trained.places.map(() => 0);
  }

  /** Whether the side to be written is still being read. */
  get blocked(): boolean {
    return this.#writer.blocked;
  }

  /** Resolves when {@link follow} can go on. */
  whenFree(): Promise<void> {
    return this.#writer.whenFree();
  }

  /** Follows a step that left the newest weights at an address; `steps` counts those of each parameter. */
  *follow(
    { runs, untouched }: Plan,
    steps: ArrayLike<number>,
    newest: number,
    work: Work,
    passes: Passes,
  ): Generator<void, void> {
    const writer = this.#writer;
    writer.begin();
    const shares = new Map(runs.map((run) => [run, this.#shareOf(run, steps)]));
    this.#byRows = this.#begun ? runs.filter((run) => shares.get(run) === 1 && work.byRows(run)) : [];
    const wholes = runs.filter((run) => !this.#byRows.includes(run));
    this.#wholes = [...wholes, ...(this.#begun ? [] : untouched)].map(({ index }) => index);
    if (this.#begun && work.catchUp(writer, [...untouched, ...this.#byRows])) yield;
    for (const run of this.#byRows) {
      const { offset } = run.place;
      work.copyRows(run, newest + offset, writer.to + offset, work.rowsOf(run));
    }
    for (const run of wholes) {
      const { index, place } = run;
      const share = shares.get(run)!;
      if (share === 1) {
        work.copy(run, newest + place.offset, writer.to + place.offset);
        continue;
      }
      const call = passes.callOf(index);
      call.setWeights(writer.from + place.offset, writer.to + place.offset);
      call.setArray(0, newest + place.offset);
      call.setScalars(averagedKernel, 0, { share });
      work.overAll(averagedKernel, run);
    }
    for (const part of this.#begun ? [] : untouched) {
      work.copy(part, newest + part.place.offset, writer.to + part.place.offset);
    }
    this.#begun = true;
    yield;
  }

  /** Makes what was written the newest average. */
  commit(version: number, work: Work): void {
    this.#writer.commit(version, (differences) => {
      for (const index of this.#wholes) differences.add(index);
      work.noteWritten(differences, this.#byRows);
    });
  }

  get counts(): readonly number[] {
    return this.#counts;
  }

  tensors(): StateTensor[] {
    const { latest } = this.params;
    return this.params.places.map(({ name, dims }) => ({ parameter: name, key: KEY, dims, data: latest[name]! }));
  }

  /** Goes on from tensors that were kept, where there are some. Returns those that are not its own. */
  restore(tensors: readonly StateTensor[], counts: readonly number[] | undefined, version: number): StateTensor[] {
    if (!counts) return [...tensors];
    const own = tensors.filter(({ key }) => key === KEY);
    this.params.load(Object.fromEntries(own.map(({ parameter, data }) => [parameter, data])), { version });
    this.#counts.splice(0, counts.length, ...counts);
    this.#begun = true;
    return tensors.filter(({ key }) => key !== KEY);
  }

  /** Counts a step of a parameter, and returns the share of the newest weights in its average: 1 for all. */
  #shareOf({ index, place }: Run, steps: ArrayLike<number>): number {
    const decay = this.#decay?.of(place.name);
    if (steps[index]! <= this.#after || decay === 0) return 1;
    const count = this.#counts[index]! + 1;
    this.#counts[index] = count;
    if (count === 1) return 1;
    return decay === undefined ? 1 / count : 1 - decay;
  }
}

function assertTwins(trained: Parameters, into: Parameters): void {
  const option = 'average.into';
  if (into === trained) {
    throw new RxgradError('invalidOption', { option, expected: 'a twin of the trained parameters', got: 'themselves' });
  }
  if (into.arena !== trained.arena) {
    const expected = 'parameters in the memory of the trained ones, as twin() makes them';
    throw new RxgradError('invalidOption', { option, expected, got: 'some in a memory of their own' });
  }
}
