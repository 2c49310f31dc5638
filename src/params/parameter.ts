import type { ParameterPlace, Weights } from './weights-reader.ts';

/** A parameter as it is kept. `data` is a view of the newest weights: read it anew after a step. */
export interface Parameter {
  readonly name: string;
  readonly dims: readonly number[];
  readonly length: number;
  readonly data: Float32Array;
}

/** A parameter of those whose newest weights are to be had there. */
export function parameterOf(parameters: { readonly latest: Weights }, { name, dims, length }: ParameterPlace): Parameter {
  return {
    name,
    dims,
    length,
    get data() {
      return parameters.latest[name]!;
    },
  };
}
