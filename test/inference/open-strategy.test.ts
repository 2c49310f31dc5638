import { Tensor } from 'onnxruntime-node';
import { HotSwapSession, type HotSwapSessionOptions } from 'rxgrad';
import { describe, expect, it, type TestContext } from 'vitest';
import { dataTypes } from '../../src/inference/onnx/data-types.ts';
import { attribute, buildModel, floats, node, tensor, value } from './onnx/build-model.ts';
import { rowWise } from './pool-models.ts';

/** Computes with its scales only where they are constants. */
const packed = buildModel(
  {
    input: [value('x', [1, 32])],
    output: [value('y')],
    node: [
      node(
        'MatMulNBits',
        ['x', 'q', 's', '', '', 'b'],
        ['y'],
        [attribute('K', 32), attribute('N', 2), attribute('bits', 4), attribute('block_size', 32)],
        'com.microsoft',
      ),
    ],
    initializer: [
      tensor({ name: 'q', dataType: dataTypes.uint8, dims: [2n, 1n, 16n], rawData: new Uint8Array(32).fill(0x99) }),
      floats('s', [2], [1, 2]),
      floats('b', [2], [3, 4]),
    ],
  },
  { domains: ['com.microsoft'] },
);
const x = new Tensor('float32', new Float32Array(32).fill(1), [1, 32]);

async function load(t: TestContext, onnx: Uint8Array, options: HotSwapSessionOptions): Promise<HotSwapSession> {
  const session = await HotSwapSession.load(onnx, undefined, options);
  t.onTestFinished(() => session.dispose());
  return session;
}

async function untilServed(session: HotSwapSession, version: number, feeds: Record<string, Tensor>): Promise<number[]> {
  for (;;) {
    const { outputs, version: served } = await session.predict(feeds);
    if (served === version) return [...(outputs.y!.data as Float32Array)];
  }
}

describe('a model that computes with constant weights only', () => {
  it.for(['rebuild', 'auto'] as const)('works with %s', async (strategy, t) => {
    const session = await load(t, packed, { strategy, trainable: ['s', 'b'] });
    expect(session.status.strategy).toMatchObject({ taken: 'rebuild' });
    expect((await session.predict({ x })).outputs.y!.data).toEqual(new Float32Array([35, 68]));
    session.params.load({ s: [2, 3], b: [0, 1] });
    expect(await untilServed(session, 1, { x })).toEqual([64, 97]);
  });

  it('says so as the reason, where rebuild was not asked for', async (t) => {
    const session = await load(t, packed, { strategy: 'auto', trainable: ['s'] });
    expect(session.status.strategy.reason).toMatch(/does not take its weights as inputs: .*"s" is read by MatMulNBits/);
  });

  it('refuses versions that are asked for, by the name of the weight', async (t) => {
    const session = await load(t, packed, { strategy: 'rebuild', trainable: ['s'] });
    await session.keep(['stable']);
    await expect(session.predict({ x }, { version: 'stable' })).rejects.toMatchObject({
      code: 'RXGRAD_UNSUPPORTED_MODEL',
      message: expect.stringMatching(/"s" is read by MatMulNBits/),
    });
  });
});

it('runs versions that are asked for beside rebuild', async (t) => {
  const session = await load(t, rowWise, { strategy: 'rebuild', workers: 2 });
  const feeds = { x: new Tensor('float32', new Float32Array([1, 1, 1]), [1, 3]) };
  await session.keep(['first']);
  session.params.load({ scale: [1, 2, 3], shift: [0, 0, 0] });
  expect(await untilServed(session, 1, feeds)).toEqual([1, 2, 3]);
  const asked = await Promise.all(Array.from({ length: 9 }, () => session.predict(feeds, { version: 'first' })));
  expect(new Set(asked.map(({ version }) => version))).toEqual(new Set([0]));
  expect(session.version).toBe(1);
  await session.rollback('first');
  await untilServed(session, 0, feeds);
});

it('tells what was taken, and why', async (t) => {
  const inputs = await load(t, rowWise, {});
  expect(inputs.status.strategy).toEqual({ taken: 'inputs', reason: 'it was asked for' });
  const auto = await load(t, rowWise, { strategy: 'auto' });
  expect(auto.status.strategy).toEqual({ taken: 'inputs', reason: 'nothing was measured so far' });
});
