import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Tensor } from 'onnxruntime-node';
import { HotSwapSession } from 'rxgrad';
import { expect, it, type TestContext } from 'vitest';
import { readModel } from '../../src/inference/onnx/model.ts';
import { withWeightsAsInputs } from '../../src/inference/onnx/with-weights-as-inputs.ts';
import { ThreadRunner } from '../../src/inference/thread-runner.ts';
import { buildModel, floats, node, value } from './onnx/build-model.ts';
import { example, exampleNames, feedsOf } from './onnx/example-models.ts';
import { load, numbers, openShapes, rows, rowWise, stepper } from './pool-models.ts';

/** What no tensor can be: a thread that finds it does not trust its link any more, and ends. */
const impossible = { type: 'string', dims: [-1], data: ['?'] } as unknown as Tensor;

async function openRunner(t: TestContext): Promise<{ runner: ThreadRunner; session: HotSwapSession }> {
  const session = await load(t, openShapes);
  const { bytes } = withWeightsAsInputs(readModel(openShapes), session.params.names);
  const model = { source: { name: 'm', bytes, folder: undefined }, options: {}, inputNames: ['x', 'text'] };
  const runner = await ThreadRunner.open(model, session.params);
  t.onTestFinished(() => runner.close());
  return { runner, session };
}

it.for(exampleNames)('predicts with the bits of this thread: %s', async (name, t) => {
  const { path } = example(name);
  const [here, there] = [await load(t, path), await load(t, path, { workers: 1 })];
  const feeds = feedsOf(example(name));
  for (let i = 0; i < 3; i++) {
    const [expected, got] = [await here.predict(feeds), await there.predict(feeds)];
    for (const output of here.outputNames) expect(got.outputs[output]).toEqual(expected.outputs[output]);
  }
  expect(there.outputs).toEqual(here.outputs);
});

it('grows its memory with what it is given', async (t) => {
  const session = await load(t, rowWise, { workers: 1 });
  for (const count of [1, 1000, 10, 100_000, 1]) {
    const { outputs } = await session.predict(rows(count));
    expect(outputs.y!.dims).toEqual([count, 3]);
    expect(numbers(outputs.y).at(-1)).toBeCloseTo(Math.sin(3 * count - 1) * 0.7 + 0.3, 5);
  }
});

it('refuses at load what onnxruntime does', async () => {
  const wrong = buildModel({
    node: [node('NoSuchOperation', ['x', 'w'], ['y'])],
    initializer: [floats('w', [1], [1])],
    input: [value('x', ['batch'])],
    output: [value('y', ['batch'])],
  });
  const refused = HotSwapSession.load(wrong, undefined, { workers: 2 });
  await expect(refused).rejects.toMatchObject({
    code: 'RXGRAD_INVALID_MODEL',
    message: expect.stringMatching(/NoSuchOperation/),
  });
});

it('goes on with another thread where one dies, and the scan does not wait for it', async (t) => {
  const { runner, session } = await openRunner(t);
  const step = stepper(session);
  const feeds = { x: rows(1).x, text: new Tensor('string', ['a'], [1, 1]) };
  for (let round = 1; round <= 3; round++) {
    const capacity: number[] = [];
    runner.onCapacity = () => capacity.push(runner.capacity);
    const asked = [runner.run({ ...feeds, text: impossible }, null), runner.run(feeds, null)];
    for (const { status, reason } of (await Promise.allSettled(asked)) as PromiseRejectedResult[]) {
      expect(status).toBe('rejected');
      expect(reason).toMatchObject({ code: 'RXGRAD_PREDICTION_FAILED', message: expect.stringMatching(/thread .* ended/) });
    }
    await expect.poll(() => capacity).toEqual([0, 2]);
    for (let i = 0; i < 5; i++) step();
    await expect.poll(() => session.version).toBe(5 * round);
    expect((await runner.run(feeds, null)).weights.version).toBe(5 * round);
  }
});

it('says why where threads die one after the other', async (t) => {
  const { runner } = await openRunner(t);
  for (let round = 0; round < 2; round++) {
    await expect.poll(() => runner.capacity).toBe(2);
    expect(runner.failure).toBe(null);
    await expect(runner.run({ x: rows(1).x, text: impossible }, null)).rejects.toThrow();
  }
  expect(runner.failure).toMatchObject({ code: 'RXGRAD_PREDICTION_FAILED' });
  await expect.poll(() => runner.failure).toBe(null);
});

it('leaves no reader behind', async (t) => {
  const session = await HotSwapSession.load(openShapes, undefined, { workers: 2 });
  const { leftRight } = session.params;
  const feeds = { x: rows(1).x, text: new Tensor('string', ['a'], [1, 1]) };
  await Promise.all(Array.from({ length: 20 }, () => session.predict(feeds)));
  expect([0, 1].map((side) => leftRight.isFree(side))).toEqual([true, true]);
  // Where somebody reads, the next version is written beside what is live.
  expect(leftRight.target).not.toBe(leftRight.live);
  await session.dispose();
  expect(leftRight.target).toBe(leftRight.live);
  const { runner, session: other } = await openRunner(t);
  await expect(runner.run({ ...feeds, text: impossible }, null)).rejects.toThrow();
  await runner.close();
  await other.dispose();
  expect(other.params.leftRight.target).toBe(other.params.leftRight.live);
});

it('lets the process exit in the middle of runs', () => {
  const args = ['--no-warnings', fileURLToPath(new URL('exiting-process.ts', import.meta.url))];
  const { status, signal, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect({ status, signal, stderr }).toEqual({ status: 7, signal: null, stderr: '' });
});
