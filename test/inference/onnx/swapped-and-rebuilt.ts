import { InferenceSession, type Tensor } from 'onnxruntime-node';
import { HotSwapSession } from 'rxgrad';
import { expect, type TestContext } from 'vitest';
import { readModel } from '../../../src/inference/onnx/model.ts';
import { withInitializers } from '../../../src/inference/onnx/with-initializers.ts';
import { expectClose } from './example-models.ts';

type Feeds = Record<string, Tensor>;

/**
 * Expects of a model that it predicts in live sessions of both strategies as onnxruntime does by itself, and after its weights have changed as a
 * session that was built from the changed ones: to the bit, unless told how far apart they may be.
 */
export async function expectSwappedAsRebuilt(
  t: TestContext,
  onnx: string | Uint8Array,
  feeds: Feeds,
  { trainable, tolerance = 0 }: { trainable?: readonly string[]; tolerance?: number } = {},
): Promise<HotSwapSession> {
  const options = trainable ? { trainable } : {};
  const session = await HotSwapSession.load(onnx, undefined, options);
  const constant = await HotSwapSession.load(onnx, session.params, { ...options, strategy: 'rebuild' });
  t.onTestFinished(async () => {
    await constant.dispose();
    await session.dispose();
  });
  const original = await outputsOf(onnx, feeds);
  expectSame(await predicted(session, feeds), original, tolerance);
  expectSame(await predicted(constant, feeds), original, tolerance);

  const changed = Object.fromEntries(
    [...session.params].map(({ name, data }) => [name, data.map((x, i) => 0.9 * x + 0.05 * Math.sin(i + 1))]),
  );
  const before = await predicted(session, feeds);
  session.params.load(changed);
  const after = await predicted(session, feeds);
  expect(after).not.toEqual(before);
  const rebuilt = await outputsOf(withInitializers(readModel(onnx), changed, { alone: true }), feeds);
  expectSame(after, rebuilt, tolerance);
  while (constant.version !== session.version) await constant.predict(feeds);
  expectSame(await predicted(constant, feeds), rebuilt, tolerance);
  return session;
}

type Outputs = Record<string, number[]>;

async function predicted(session: HotSwapSession, feeds: Feeds): Promise<Outputs> {
  return numbersOf((await session.predict(feeds)).outputs);
}

async function outputsOf(onnx: string | Uint8Array, feeds: Feeds): Promise<Outputs> {
  const session = await (typeof onnx === 'string' ? InferenceSession.create(onnx) : InferenceSession.create(onnx));
  try {
    return numbersOf(await session.run(feeds));
  } finally {
    await session.release();
  }
}

function numbersOf(outputs: Readonly<Record<string, Tensor>>): Outputs {
  return Object.fromEntries(
    Object.entries(outputs).map(([name, { data }]) => [name, Array.from(data as Iterable<number>, Number)]),
  );
}

function expectSame(got: Outputs, expected: Outputs, tolerance: number): void {
  if (tolerance === 0) expect(got).toEqual(expected);
  else for (const [name, values] of Object.entries(expected)) expectClose(got[name]!, values, tolerance, tolerance);
}
