import type { Parameters } from '../params/parameters.ts';
import type { Rule, StateSpec } from './rule.ts';

const LINE = 64;

/** One parameter's part of a rule's state: addresses in the order of the rule's state, and views by name. */
export interface StatePlace {
  readonly addresses: readonly number[];
  readonly dims: readonly (readonly number[])[];
  readonly views: Readonly<Record<string, Float32Array>>;
}

/** The buffers of a rule for each parameter, in the order of the parameters, and how often each was stepped. */
export class OptimizerState {
  readonly places: readonly StatePlace[];
  readonly counts: Float64Array;
  readonly #params: Parameters;
  readonly #address: number;
  readonly #byteLength: number;

  constructor(params: Parameters, rule: Rule, lrOf: (index: number) => number) {
    this.#params = params;
    this.counts = new Float64Array(params.places.length);
    let offset = 0;
    const dimsAndOffsets = params.places.map((place) =>
      rule.state.map((spec) => {
        const dims = spec.dims?.(place.dims) ?? place.dims;
        const at = offset;
        offset += Math.ceil((4 * sizeOf(dims)) / LINE) * LINE;
        return { dims, at };
      }),
    );
    this.#byteLength = offset;
    this.#address = params.arena.allocate(offset);
    this.places = dimsAndOffsets.map((parts) => ({
      addresses: parts.map(({ at }) => this.#address + at),
      dims: parts.map(({ dims }) => dims),
      views: Object.fromEntries(
        parts.map(({ dims, at }, i) => [rule.state[i]!.name, params.arena.floats(this.#address + at, sizeOf(dims))]),
      ),
    }));
    for (const spec of rule.state) this.#fill(spec, lrOf);
  }

  /** Gives the memory back. */
  dispose(): void {
    this.#params.arena.release(this.#address, this.#byteLength);
  }

  #fill({ name, initial = 0 }: StateSpec, lrOf: (index: number) => number): void {
    if (initial === 0) return;
    for (const [index, { views }] of this.places.entries()) {
      const view = views[name]!;
      if (typeof initial === 'number') {
        view.fill(initial);
        continue;
      }
      const weights = this.#params.latest[this.#params.places[index]!.name]!;
      const lr = lrOf(index);
      for (let i = 0; i < view.length; i++) view[i] = initial(lr, weights[i]!);
    }
  }
}

function sizeOf(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}
