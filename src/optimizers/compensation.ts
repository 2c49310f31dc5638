import { add, div, kernel, type Lanes, max, min, moving, mul, sqrt, square, sub } from '../kernels/kernel.ts';
import type { Parameters } from '../params/parameters.ts';
import type { StateTensor } from '../params/state-dict.ts';
import type { WeightsWriter } from '../params/weights-writer.ts';
import type { Compensate } from '../staleness.ts';
import type { Passes } from './passes.ts';
import type { Run } from './plan.ts';
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

/** What a state dict holds of the versions that are kept, beside their tensors. */
export interface HistoryFacts {
  readonly versions: number[];
  /** Parameter, version, and the numbers of the rows that are kept of it. */
  readonly rows: [string, number, number[]][];
}

const MEAN_SQUARE = 'delay_mean_square';
const historyKey = /^delay_weights_(\d+)$/;

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
        return { parameter, key: `delay_weights_${version}`, dims, data: arena.floats(address, byteLength / 4) };
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

  /** Goes on from tensors that were kept. Returns those that are not its own. */
  restore(tensors: readonly StateTensor[], { versions, rows }: HistoryFacts): StateTensor[] {
    this.#history.restore(versions);
    const numbers = new Map(rows.map(([parameter, version, list]) => [`${version} ${parameter}`, Int32Array.from(list)]));
    return tensors.filter(({ parameter, key, data }) => {
      const index = this.#params.names.indexOf(parameter);
      const version = historyKey.exec(key)?.[1];
      if (key === MEAN_SQUARE) this.#params.arena.floats(this.#meanSquareOf(index), data.length).set(data);
      else if (version) this.#history.restorePart(Number(version), index, numbers.get(`${version} ${parameter}`) ?? null, data);
      return key !== MEAN_SQUARE && !version;
    });
  }

  /** Gives the memory back. */
  dispose(): void {
    const { arena, places } = this.#params;
    this.#history.dispose();
    for (const [index, address] of this.#meanSquares) arena.release(address, 4 * places[index]!.length);
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
