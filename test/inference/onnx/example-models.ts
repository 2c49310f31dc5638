import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { expect, type TestContext } from 'vitest';

/** The models of test/models: torch's exports, with torch's loss, gradients and outputs beside them. */
export const exampleNames = ['logistic', 'mlp', 'mixed-mlp', 'convnet', 'ctr', 'transformer'] as const;

interface Values {
  readonly type?: 'float32' | 'int64';
  readonly dims: readonly number[];
  readonly data: readonly number[];
}
interface Example {
  readonly path: string;
  readonly inputs: Readonly<Record<string, Values>>;
  readonly gradients: Readonly<Record<string, Values>>;
  readonly output: Values;
  readonly outputAfterSgdStep: Values;
}
type Feeds = Record<string, Tensor>;

export function example(name: string): Example {
  const folder = fileURLToPath(new URL('../../models/', import.meta.url));
  return { ...JSON.parse(readFileSync(`${folder}${name}.json`, 'utf8')), path: `${folder}${name}.onnx` };
}

export function feedsOf({ inputs }: Example): Feeds {
  const entries = Object.entries(inputs).map(([name, { type, dims, data }]) => {
    const tensor =
      type === 'int64'
        ? new Tensor('int64', BigInt64Array.from(data, BigInt), dims)
        : new Tensor('float32', Float32Array.from(data), dims);
    return [name, tensor] as const;
  });
  return Object.fromEntries(entries);
}

/** A step of plain SGD, in float32. */
export function sgd(weights: Float32Array, gradient: readonly number[], rate: number): Float32Array {
  expect(weights).toHaveLength(gradient.length);
  return weights.map((weight, index) => weight - rate * gradient[index]!);
}

export async function openSession(t: TestContext, onnx: string | Uint8Array): Promise<InferenceSession> {
  const session = await (typeof onnx === 'string' ? InferenceSession.create(onnx) : InferenceSession.create(onnx));
  t.onTestFinished(() => session.release());
  return session;
}

/** Runs a model once and gives its first output. */
export async function run(t: TestContext, onnx: string | Uint8Array, feeds: Feeds): Promise<number[]> {
  const session = await openSession(t, onnx);
  const outputs = await session.run(feeds);
  return Array.from(outputs[session.outputNames[0]!]!.data as Float32Array);
}

export function expectClose(got: readonly number[], expected: readonly number[], absolute = 1e-5, relative = 1e-4): void {
  expect(got).toHaveLength(expected.length);
  const far = expected.filter((value, index) => !(Math.abs(got[index]! - value) <= absolute + relative * Math.abs(value)));
  expect(far, `expected ${expected}, got ${got}`).toEqual([]);
}
