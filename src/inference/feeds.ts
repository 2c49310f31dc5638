import type { Tensor } from 'onnxruntime-node';
import { RxgradError } from '../errors.ts';
import type { ModelInput } from './onnx/model.ts';

/** Checks a prediction's inputs against the model's: all there, none besides, types and shapes as declared. */
export function assertFeeds(model: string, inputs: readonly ModelInput[], feeds: Readonly<Record<string, Tensor>>): void {
  for (const input of inputs) {
    const problem = problemWith(input, feeds[input.name]);
    if (problem) throw new RxgradError('invalidFeed', { model, input: input.name, ...problem });
  }
  if (Object.keys(feeds).length === inputs.length) return;
  const surplus = Object.keys(feeds).find((name) => !inputs.some((input) => input.name === name))!;
  const expected = `not to be fed (inputs are ${inputs.map(({ name }) => name).join(', ') || 'none'})`;
  throw new RxgradError('invalidFeed', { model, input: surplus, expected, got: 'a feed of that name' });
}

function problemWith({ type, dims }: ModelInput, tensor: Tensor | undefined): { expected: string; got: string } | null {
  if (tensor === undefined || tensor === null) return { expected: `as a tensor of ${type}`, got: 'nothing' };
  if (tensor.type !== type) return { expected: `as a tensor of ${type}`, got: String(tensor.type) };
  if (!dims) return null;
  const fits = tensor.dims.length === dims.length && dims.every((dim, i) => typeof dim === 'string' || dim === tensor.dims[i]);
  return fits ? null : { expected: `with dims [${dims}]`, got: `[${tensor.dims}]` };
}
