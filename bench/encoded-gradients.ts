import { encodeEvent, gradientBatch, type NewRecord } from '../src/index.ts';
import type { ElementType } from '../src/payload.ts';

const biasLength = 64;

/** Shapes of a model of so many parameters, with a weight and a bias. */
export function shapesOf(parameters: number): Record<string, { readonly dims: number[] }> {
  return { 'dense.weight': { dims: [parameters - biasLength] }, 'dense.bias': { dims: [biasLength] } };
}

/** Gradients of such a model as a worker sends them: safetensors, and what it knows of them in headers. */
export function encodedGradients(parameters: number, sequence: number, dtype: ElementType = 'F32'): NewRecord {
  const gradients = Object.fromEntries(
    Object.entries(shapesOf(parameters)).map(([name, { dims }]) => [
      name,
      { dims, data: Float32Array.from({ length: dims[0]! }, (_, i) => Math.sin(i + sequence)) },
    ]),
  );
  const facts = { worker: 'w1', sequence, base: sequence, batchSize: 32, epoch: 0, loss: 0.4321 };
  return encodeEvent(gradientBatch({ gradients, ...facts }), { key: 'model', dtype });
}
