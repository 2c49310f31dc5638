import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Tensor } from 'onnxruntime-node';
import { gradientBatch, HotSwapSession, hotSwap, optimizer, Parameters } from 'rxgrad';
import { of } from 'rxjs';
import { describe, expect, it, type TestContext } from 'vitest';
import { readModel } from '../../src/inference/onnx/model.ts';
import { withInitializers } from '../../src/inference/onnx/with-initializers.ts';
import { example, exampleNames, expectClose, feedsOf, run } from './onnx/example-models.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Resident memory without what the next collection would free. */
function residentBytes(): number {
  collectGarbage();
  return process.memoryUsage.rss();
}

async function load(t: TestContext, onnx: string | Uint8Array, params?: Parameters): Promise<HotSwapSession> {
  const session = await HotSwapSession.load(onnx, params);
  t.onTestFinished(() => session.dispose());
  return session;
}

async function predict(session: HotSwapSession, feeds: Record<string, Tensor>): Promise<{ output: number[]; version: number }> {
  const { outputs, version } = await session.predict(feeds);
  return { output: [...(outputs[session.outputNames[0]!]!.data as Float32Array)], version };
}

describe.each(exampleNames)('%s', (name) => {
  const { path, gradients, output, outputAfterSgdStep, ...rest } = example(name);
  const feeds = feedsOf({ path, gradients, output, outputAfterSgdStep, ...rest });
  const batch = gradientBatch({
    gradients: Object.fromEntries(
      Object.entries(gradients).map(([weight, { dims, data }]) => [weight, { dims, data: Float32Array.from(data) }]),
    ),
  });

  it('predicts what torch does, before and after a step of SGD', async (t) => {
    const session = await load(t, path);
    const before = await predict(session, feeds);
    expect(before.version).toBe(0);
    expectClose(before.output, output.data);

    of(batch)
      .pipe(optimizer(session.params, { type: 'SGD', lr: 0.1 }), hotSwap(session))
      .subscribe();
    const after = await predict(session, feeds);
    expect(after.version).toBe(1);
    expectClose(after.output, outputAfterSgdStep.data);
  });

  it('predicts as a session that was built from the changed weights', async (t) => {
    const session = await load(t, path);
    const changed = Object.fromEntries(
      [...session.params].map(({ name, data }) => [name, data.map((x, i) => 0.9 * x + 0.05 * Math.sin(i))]),
    );
    session.params.load(changed);
    const { output: swapped } = await predict(session, feeds);
    expectClose(swapped, await run(t, withInitializers(readModel(path), changed), feeds), 1e-6, 1e-6);
  });

  it('keeps memory flat over 1,000 swaps', async (t) => {
    const session = await load(t, path);
    const swapOften = async (times: number) => {
      for (let i = 0; i < times; i++) {
        of(batch)
          .pipe(optimizer(session.params, { type: 'Momentum', lr: 1e-6 }), hotSwap(session))
          .subscribe();
        await session.predict(feeds);
      }
    };
    // Until the engine's young generation has grown to its size, which is once and by a dozen MiB.
    await swapOften(3000);
    const arena = session.params.arena.bytes.byteLength;
    const resident = residentBytes();
    await swapOften(1000);
    expect(session.version).toBe(4000);
    expect(session.params.arena.bytes.byteLength).toBe(arena);
    expect((residentBytes() - resident) / 2 ** 20, 'MiB').toBeLessThan(16);
  });
});

describe('versions', () => {
  const path = example('mlp').path;
  const feeds = feedsOf(example('mlp'));
  const step = () => gradientBatch({ gradients: { '2.bias': new Float32Array([1, 1, 1]) } });

  it('keeps predicting with the old weights until the swap', async (t) => {
    const session = await load(t, path);
    const before = await predict(session, feeds);
    of(step(), step())
      .pipe(optimizer(session.params, { type: 'SGD', lr: 1 }))
      .subscribe();
    expect(session.params.version).toBe(2);
    expect(await predict(session, feeds)).toEqual(before);
    session.swap();
    const after = await predict(session, feeds);
    expect(after.version).toBe(2);
    expectClose(
      after.output,
      before.output.map((x) => x - 2),
    );
  });

  it('names the version that it computed with, however many steps fall between call and computation', async (t) => {
    const session = await load(t, path);
    const before = await predict(session, feeds);
    for (let round = 0; round < 20; round++) {
      const asked = [session.predict(feeds), session.predict(feeds)];
      of(step(), step(), step())
        .pipe(optimizer(session.params, { type: 'SGD', lr: 1 }), hotSwap(session))
        .subscribe();
      for (const { outputs, version } of await Promise.all(asked)) {
        expectClose(
          [...(outputs.output!.data as Float32Array)],
          before.output.map((x) => x - version),
          1e-3,
        );
      }
    }
    expect(session.version).toBe(60);
  });

  it('copies the weights of other parameters', async (t) => {
    const [trained, serving] = [await load(t, path), await load(t, path)];
    of(step())
      .pipe(optimizer(trained.params, { type: 'SGD', lr: 1 }), hotSwap(serving))
      .subscribe();
    expect(serving.version).toBe(1);
    expect(serving.params.get('2.bias').data).toEqual(trained.params.get('2.bias').data);
  });

  it('shares parameters between sessions', async (t) => {
    const first = await load(t, path);
    const second = await load(t, path, first.params);
    of(step())
      .pipe(optimizer(first.params, { type: 'SGD', lr: 1 }), hotSwap(first))
      .subscribe();
    expect(await predict(second, feeds)).toEqual(await predict(first, feeds));
  });
});

describe('refuses', () => {
  const path = example('mlp').path;

  it('parameters that are not the model’s', async () => {
    const params = Parameters.create({ '0.weight': { dims: [6, 12] }, other: { dims: [2] } });
    await expect(HotSwapSession.load(path, params)).rejects.toMatchObject({
      code: 'RXGRAD_PARAMETERS_DIFFER',
      message: expect.stringMatching(/"0.weight" is \[12,6\] in the model, \[6,12\].*"0.bias" \[12\] is missing.*"other" is not/),
    });
  });

  it.each([
    [{}, /input "x" as a tensor of float32, got nothing/],
    [{ x: new Tensor('int64', BigInt64Array.of(1n), [1, 1]) }, /"x" as a tensor of float32, got int64/],
    [{ x: new Tensor('float32', new Float32Array(5), [1, 5]) }, /"x" with dims \[batch,6\], got \[1,5\]/],
    [{ x: new Tensor('float32', new Float32Array(6), [1, 6]), y: new Tensor('float32', [1], [1]) }, /"y" not to be fed/],
  ])('feeds %#', async (feeds, message) => {
    const session = await HotSwapSession.load(path);
    await expect(session.predict(feeds as Record<string, Tensor>)).rejects.toThrow(message);
    await session.dispose();
  });

  it('predictions after it was disposed of', async () => {
    const session = await HotSwapSession.load(path);
    await session.dispose();
    await session.dispose();
    await expect(session.predict(feedsOf(example('mlp')))).rejects.toMatchObject({ code: 'RXGRAD_SESSION_CLOSED' });
  });
});
