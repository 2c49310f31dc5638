import * as v from 'valibot';
import { assertNoDifferences, RxgradError } from '../errors.ts';
import { add, kernel, mul, sub } from '../kernels/kernel.ts';
import { fraction } from '../options.ts';
import type { LogPlace } from '../params/origins.ts';
import { Parameters } from '../params/parameters.ts';
import type { KeptState, StateTensor } from '../params/state-dict.ts';
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
  /** What the step under way writes: whole parameters with their share of the newest weights, or rows of others. */
  #wholes: { readonly part: Pick<Run, 'index' | 'place'>; readonly share: number }[] = [];
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
    this.#byRows = [];
    this.#wholes = this.#begun ? [] : untouched.map((part) => ({ part, share: 1 }));
    for (const run of runs) {
      const share = this.#shareOf(run, steps);
      if (this.#begun && share === 1 && work.byRows(run)) this.#byRows.push(run);
      else this.#wholes.push({ part: run, share });
    }
    if (this.#begun && work.catchUp(writer, [...untouched, ...this.#byRows])) yield;
    for (const run of this.#byRows) {
      const { offset } = run.place;
      work.copyRows(run, newest + offset, writer.to + offset, work.rowsOf(run));
    }
    for (const { part, share } of this.#wholes) {
      const { offset } = part.place;
      if (share === 1) {
        work.copy(part, newest + offset, writer.to + offset);
        continue;
      }
      const call = passes.callOf(part.index);
      call.setWeights(writer.from + offset, writer.to + offset);
      call.setArray(0, newest + offset);
      call.setScalars(averagedKernel, 0, { share });
      work.overAll(averagedKernel, part);
    }
    this.#begun = true;
    yield;
  }

  /** Makes what was written the newest average. */
  commit(version: number, position: LogPlace | null, work: Work, passes: Passes): void {
    const { finiteness } = this.params;
    for (const { part } of this.#wholes) finiteness.note(part.index, passes.callOf(part.index).finite, true);
    for (const { index } of this.#byRows) finiteness.note(index, passes.callOf(index).finite, false);
    this.#writer.commit(version, this.params.origins.of(position), (written) => {
      for (const { part } of this.#wholes) written.add(part.index);
      work.noteWritten(written, this.#byRows);
    });
  }

  get counts(): readonly number[] {
    return this.#counts;
  }

  tensors(): StateTensor[] {
    const { latest } = this.params;
    return this.params.places.map(({ name, dims }) => ({ parameter: name, key: KEY, dims, data: latest[name]! }));
  }

  /**
   * Goes on from tensors that were kept; returns those that are not its own. Where they are not an average of each parameter it
   * begins anew, or fails with all that differ if they have to be.
   */
  restore({ tensors, strict }: Pick<KeptState, 'tensors' | 'strict'>, counts: readonly number[], version: number): StateTensor[] {
    const own = new Map(tensors.filter(({ key }) => key === KEY).map((tensor) => [tensor.parameter, tensor]));
    const { places } = this.params;
    const differences = [
      ...places.flatMap(({ name, dims }) => {
        const got = own.get(name)?.dims;
        if (!got) return [`"${name}.${KEY}" [${dims}] is missing`];
        return String(got) === String(dims) ? [] : [`"${name}.${KEY}" has dims [${dims}], got [${got}]`];
      }),
    ];
    if (strict) assertNoDifferences(differences);
    if (differences.length === 0) {
      this.params.load(Object.fromEntries([...own].map(([name, { data }]) => [name, data])), { version });
      for (const [index, count] of counts.entries()) this.#counts[index] = count;
      this.#begun = true;
    }
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
