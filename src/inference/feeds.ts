import type { Tensor } from 'onnxruntime-node';
import { RxgradError } from '../errors.ts';
import type { ModelInput } from './onnx/model.ts';

/** Checks a prediction's inputs against the model's: all there, none besides, types and shapes as declared. */
export function assertFeeds(model: string, inputs: readonly ModelInput[], feeds: Readonly<Record<string, Tensor>>): void {
  for (const input of inputs) {
    const tensor = feeds[input.name];
    if (fits(input, tensor)) continue;
    throw new RxgradError('invalidFeed', { model, input: input.name, ...problemWith(input, tensor) });
  }
  if (Object.keys(feeds).length === inputs.length) return;
  const surplus = Object.keys(feeds).find((name) => !inputs.some((input) => input.name === name))!;
  const expected = `not to be fed (inputs are ${inputs.map(({ name }) => name).join(', ') || 'none'})`;
  throw new RxgradError('invalidFeed', { model, input: surplus, expected, got: 'a feed of that name' });
}

// A loop, since every prediction comes by here.
function fits({ type, dims }: ModelInput, tensor: Tensor | undefined | null): boolean {
  if (!tensor || tensor.type !== type) return false;
  if (!dims) return true;
  const got = tensor.dims;
  if (got.length !== dims.length) return false;
  for (let i = 0; i < dims.length; i++) if (typeof dims[i] === 'number' ? dims[i] !== got[i] : !(got[i]! >= 0)) return false;
  return true;
}

function problemWith({ type, dims }: ModelInput, tensor: Tensor | undefined): { expected: string; got: string } {
  if (tensor === undefined || tensor === null) return { expected: `as a tensor of ${type}`, got: 'nothing' };
  if (tensor.type !== type) return { expected: `as a tensor of ${type}`, got: String(tensor.type) };
  return { expected: `with dims [${dims}]`, got: `[${tensor.dims}]` };
}
