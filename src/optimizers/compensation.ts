import { assertNoDifferences } from '../errors.ts';
import { add, div, kernel, type Lanes, max, min, moving, mul, sqrt, square, sub } from '../kernels/kernel.ts';
import type { Parameters } from '../params/parameters.ts';
import type { KeptState, StateTensor } from '../params/state-dict.ts';
import type { WeightsWriter } from '../params/weights-writer.ts';
import type { Compensate } from '../staleness.ts';
import type { Passes } from './passes.ts';
import type { Run } from './plan.ts';
import type { HistoryFacts } from './scan-facts.ts';
import { WeightHistory } from './weight-history.ts';
import type { Work } from './work.ts';

// What is finite stays so, whatever the gradient: squares of more than 10¹⁹ are cut off at the largest float32.
const LARGEST = 3.4028234663852886e38;
const bounded = (x: Lanes): Lanes => max(min(x, LARGEST), -LARGEST);

const compensated = (g: Lanes, lambda: Lanes, w: Lanes, base: Lanes): Lanes =>
  bounded(add(g, mul(bounded(square(g)), mul(lambda, sub(w, base)))));

export const compensatedKernel = kernel(
  'compensated',
  { arrays: ['base'], scalars: ['lambda'], prologue: false },
  ({ w, g, base, lambda }) => ({ g: compensated(g, lambda, w, base) }),
);

export const adaptivelyCompensatedKernel = kernel(
  'adaptivelyCompensated',
  { arrays: ['base', 'meanSquare'], scalars: ['lambda', 'rho', 'rest'], prologue: false },
  ({ w, g, base, meanSquare, lambda, rho, rest }) => {
    const m = moving(meanSquare, bounded(square(g)), rho, rest);
    return { meanSquare: m, g: compensated(g, div(lambda, sqrt(add(m, 1e-7))), w, base) };
  },
);

const MEAN_SQUARE = 'delay_mean_square';
const versionKey = (version: number): string => `delay_weights_${version}`;

/** The version whose weights a key stands for, or null. */
function versionOf(key: string): number | null {
  const [, version] = /^delay_weights_(\d+)$/.exec(key) ?? [];
  return version === undefined ? null : Number(version);
}

function isOwn(key: string): boolean {
  return key === MEAN_SQUARE || versionOf(key) !== null;
}

/**
 * Delay compensation: adds to a gradient of older weights what its change since then is estimated to be, λ g ⊙ g ⊙ (θ − θ′).
 * Keeps the weights of the last versions for it.
 *
 * Zheng et al., "Asynchronous Stochastic Gradient Descent with Delay Compensation" (2017), equations 10 and 14.
 */
export class Compensation {
  readonly #params: Parameters;
  readonly #history: WeightHistory;
  readonly #meanSquares = new Map<number, number>();

  constructor(params: Parameters) {
    this.#params = params;
    this.#history = new WeightHistory(params);
  }

  /** The first version whose weights are known. */
  get oldest(): number {
    return this.#history.oldest;
  }

  /** Notes the compensation of gradients of the weights `base`. Tells whether there was any. */
  note(policy: Compensate, base: number, runs: readonly Run[], work: Work, passes: Passes, writer: WeightsWriter): boolean {
    const { lambda, adaptive, decay: rho } = policy;
    if (base === this.#params.version && !adaptive) return false;
    for (const run of runs) {
      const { index, place } = run;
      const call = passes.callOf(index);
      const newest = writer.from + place.offset;
      const rows = run.rows ? this.#numbersOf(work.rowsOf(run)) : null;
      call.setWeights(newest, newest);
      call.setArray(0, this.#history.weightsAt(index, base, rows, newest));
      if (adaptive) call.setArray(1, this.#meanSquareOf(index));
      const kernel = adaptive ? adaptivelyCompensatedKernel : compensatedKernel;
      call.setScalars(kernel, 0, { lambda, rho, rest: 1 - rho });
      work.overGradients(kernel, run);
    }
    return true;
  }

  /** Notes that what a step is about to write over is kept. */
  keep({ versions }: Compensate, runs: readonly Run[], work: Work, writer: WeightsWriter): void {
    this.#history.versions = versions;
    this.#history.begin(this.#params.version);
    for (const run of runs) {
      const { index, place } = run;
      const weights = writer.from + place.offset;
      const rows = work.byRows(run) ? work.rowsOf(run) : null;
      // A long list of rows costs more than it saves.
      if (rows && 4 * rows.count < place.dims[0]!) this.#history.keepRows(index, this.#numbersOf(rows), weights);
      else work.copy(run, weights, this.#history.keepWhole(index));
    }
  }

  /** What is to be kept of it, with the shapes of the parameters or of their rows. */
  tensors(): StateTensor[] {
    const { arena, places } = this.#params;
    const meanSquares = [...this.#meanSquares].map(([index, address]): StateTensor => {
      const { name: parameter, dims, length } = places[index]!;
      return { parameter, key: MEAN_SQUARE, dims, data: arena.floats(address, length) };
    });
    const old = this.#history.entries.flatMap(({ version, parts }) =>
      [...parts].map(([index, { address, byteLength, rows }]): StateTensor => {
        const { name: parameter, dims: whole } = places[index]!;
        const dims = rows ? [rows.length, ...whole.slice(1)] : whole;
        return { parameter, key: versionKey(version), dims, data: arena.floats(address, byteLength / 4) };
      }),
    );
    return [...meanSquares, ...old];
  }

  facts(): HistoryFacts {
    const { entries } = this.#history;
    return {
      versions: entries.map(({ version }) => version),
      rows: entries.flatMap(({ version, parts }) =>
        [...parts].flatMap(([index, { rows }]): HistoryFacts['rows'] =>
          rows ? [[this.#params.places[index]!.name, version, [...rows]]] : [],
        ),
      ),
    };
  }

  /**
   * Goes on from tensors that were kept; returns those that are not its own. Where some do not fit it takes none, and fails with
   * all that differ if they have to.
   */
  restore({ tensors, strict }: Pick<KeptState, 'tensors' | 'strict'>, { versions, rows }: HistoryFacts): StateTensor[] {
    const numbers = new Map(rows.map(([parameter, version, list]) => [`${parameter}.${versionKey(version)}`, list]));
    const rowsOf = ({ parameter, key }: StateTensor): number[] | undefined => numbers.get(`${parameter}.${key}`);
    const own = tensors.filter(({ key }) => isOwn(key));
    const differences = [
      ...(versions.every((version, i) => version === versions[0]! + i)
        ? []
        : [`expected old weights of versions that follow each other, got ${versions}`]),
      ...own.flatMap((tensor) => this.#misfits(tensor, rowsOf(tensor), versions)),
    ];
    if (strict) assertNoDifferences(differences);
    if (differences.length === 0) {
      this.#history.restore(versions);
      for (const tensor of own) this.#restoreTensor(tensor, rowsOf(tensor));
    }
    return tensors.filter(({ key }) => !isOwn(key));
  }

  /** Gives the memory back. */
  dispose(): void {
    const { arena, places } = this.#params;
    this.#history.dispose();
    for (const [index, address] of this.#meanSquares) arena.release(address, 4 * places[index]!.length);
  }

  #restoreTensor({ parameter, key, data }: StateTensor, rows: number[] | undefined): void {
    const index = this.#params.names.indexOf(parameter);
    if (key === MEAN_SQUARE) this.#params.arena.floats(this.#meanSquareOf(index), data.length).set(data);
    else this.#history.restorePart(versionOf(key)!, index, rows ? Int32Array.from(rows) : null, data);
  }

  /** How a tensor that was kept does not fit: it is written where its dims and row numbers say. */
  #misfits({ parameter, key, dims }: StateTensor, rows: number[] | undefined, versions: readonly number[]): string[] {
    const { dims: whole } = this.#params.get(parameter);
    const name = `"${parameter}.${key}"`;
    const expected = rows ? [rows.length, ...whole.slice(1)] : whole;
    const version = versionOf(key);
    const wrong = rows?.find((row) => !(Number.isInteger(row) && row >= 0 && row < (whole[0] ?? 0)));
    return [
      ...(String(dims) === String(expected) ? [] : [`${name} has dims [${expected}], got [${dims}]`]),
      ...(wrong === undefined ? [] : [`${name} has row ${wrong} of [${whole}]`]),
      ...(version === null || versions.includes(version) ? [] : [`${name} is of no version that is kept`]),
    ];
  }

  #numbersOf({ address, count }: { readonly address: number; readonly count: number }): Int32Array {
    return new Int32Array(this.#params.arena.memory.buffer, address, count);
  }

  #meanSquareOf(index: number): number {
    const { arena, places } = this.#params;
    const address = this.#meanSquares.get(index) ?? arena.allocate(4 * places[index]!.length);
    this.#meanSquares.set(index, address);
    return address;
  }
}
