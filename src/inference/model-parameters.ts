import { assertNoDifferences, RxgradError } from '../errors.ts';
import type { ParameterSpec } from '../params/layout.ts';
import type { Parameters } from '../params/parameters.ts';
import type { Model } from './onnx/model.ts';
import { trainableInitializers } from './onnx/trainable-initializers.ts';

/** The parameters that a model's weights become. */
export function specsOf(model: Model, trainable: readonly string[] | undefined): Record<string, Required<ParameterSpec>> {
  const weights = trainableInitializers(model, trainable);
  if (weights.length === 0) {
    throw new RxgradError('unsupportedModel', {
      model: model.name,
      problem: 'it has no floating-point initializer of rank 1 or more to train',
      advice: 'Export it with its weights as initializers, or name them through the option `trainable`',
    });
  }
  return Object.fromEntries(weights.map(({ name, dims, data }) => [name, { dims, data }]));
}

/** Fails where parameters are not those of a model. */
export function assertSameParameters(params: Parameters, specs: Readonly<Record<string, ParameterSpec>>): void {
  const differences = [
    ...Object.entries(specs).flatMap(([name, { dims }]) => {
      if (!params.has(name)) return [`"${name}" [${dims}] is missing`];
      const own = params.get(name).dims;
      return String(own) === String(dims) ? [] : [`"${name}" is [${dims}] in the model, [${own}] in the parameters`];
    }),
    ...params.names.filter((name) => !(name in specs)).map((name) => `"${name}" is not in the model`),
  ];
  assertNoDifferences(differences);
}
