import { assertNoDifferences } from '../errors.ts';
import type { Parameters } from '../params/parameters.ts';
import type { KeptState, StateTensor } from '../params/state-dict.ts';
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
  readonly #rule: Rule;
  readonly #address: number;
  readonly #byteLength: number;

  constructor(params: Parameters, rule: Rule, lrOf: (index: number) => number) {
    this.#params = params;
    this.#rule = rule;
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

  /** What a state dict holds of it: views, in the order of the parameters. */
  tensors(): StateTensor[] {
    return this.#slots().map(({ parameter, key, dims, view }) => ({ parameter, key, dims, data: view }));
  }

  /** Goes on from tensors that were loaded. Fails with all that differ, where they are to fit. */
  restore({ tensors, strict }: Pick<KeptState, 'tensors' | 'strict'>): void {
    const given = new Map(tensors.map((tensor) => [`${tensor.parameter}.${tensor.key}`, tensor]));
    const differences: string[] = [];
    const places = this.#params.names;
    for (const { parameter, key, dims, view } of this.#slots()) {
      const name = `${parameter}.${key}`;
      const tensor = given.get(name);
      given.delete(name);
      if (!tensor) differences.push(`the state of ${this.#rule.name} has "${name}" [${dims}], which is missing`);
      else if (tensor.data.length !== view.length) differences.push(`"${name}" has dims [${dims}], got [${tensor.dims}]`);
      else view.set(tensor.data);
    }
    for (const { parameter, key, data } of given.values()) {
      if (key === 'step') this.counts[places.indexOf(parameter)] = data[0] ?? 0;
      else differences.push(`"${parameter}.${key}" is no state of ${this.#rule.name}`);
    }
    if (strict) assertNoDifferences(differences);
  }

  /** Gives the memory back. */
  dispose(): void {
    this.#params.arena.release(this.#address, this.#byteLength);
  }

  /** What is to be kept: not what means nothing between steps, nor what has no elements. */
  #slots() {
    return this.places.flatMap(({ views, dims }, index) =>
      this.#rule.state.flatMap(({ name, key = name, scratch }, i) => {
        const view = views[name]!;
        return scratch || view.length === 0 ? [] : [{ parameter: this.#params.names[index]!, key, dims: dims[i]!, view }];
      }),
    );
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
