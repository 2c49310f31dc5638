import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Worker } from 'node:worker_threads';
import { HotSwapSession } from 'rxgrad';
import { expect, it, type TestContext } from 'vitest';
import { buildModel, floats, node, value } from './onnx/build-model.ts';
import { example, exampleNames, feedsOf } from './onnx/example-models.ts';
import { load, numbers, rows, rowWise, stepper } from './pool-models.ts';

/** The threads that have opened a model meanwhile. */
function threadsOf(t: TestContext): Worker[] {
  const threads: Worker[] = [];
  const hear = (worker: Worker) => worker.once('message', () => threads.push(worker));
  process.on('worker', hear);
  t.onTestFinished(() => void process.off('worker', hear));
  return threads;
}

/**
 * Ends a thread that waits, before anybody hears of it: one within onnxruntime would take the process with it. So this thread
 * is blocked, not waiting, until the other is at rest, and until it has ended.
 */
function end(thread: Worker): Promise<unknown> {
  block();
  const ended = thread.terminate();
  block();
  return ended;
}

function block(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
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
  const threads = threadsOf(t);
  const session = await load(t, rowWise, { workers: 2 });
  const step = stepper(session);
  for (let round = 0; round < 3; round++) {
    const asked = Promise.allSettled(Array.from({ length: 40 }, () => session.predict(rows(1))));
    await threads.at(-1)!.terminate();
    for (const answer of await asked) {
      if (answer.status === 'rejected') {
        expect(answer.reason).toMatchObject({
          code: 'RXGRAD_PREDICTION_FAILED',
          message: expect.stringMatching(/thread .* ended/),
        });
      }
    }
    for (let i = 0; i < 5; i++) step();
    await expect.poll(() => session.params.version).toBe(5 * (round + 1));
    expect((await session.predict(rows(1))).version).toBe(session.params.version);
    await expect.poll(() => threads.length).toBe(3 + round);
  }
});

it('leaves no reader behind', async (t) => {
  const threads = threadsOf(t);
  const session = await HotSwapSession.load(rowWise, undefined, { workers: 2 });
  const { leftRight } = session.params;
  await session.predict(rows(1));
  const ended = end(threads[0]!);
  await Promise.allSettled(Array.from({ length: 20 }, () => session.predict(rows(1))));
  await ended;
  expect([0, 1].map((side) => leftRight.isFree(side))).toEqual([true, true]);
  // Where somebody reads, the next version is written beside what is live.
  expect(leftRight.target).not.toBe(leftRight.live);
  await session.dispose();
  expect(leftRight.target).toBe(leftRight.live);
});

it('lets the process exit in the middle of runs', () => {
  const args = ['--no-warnings', fileURLToPath(new URL('exiting-process.ts', import.meta.url))];
  const { status, signal, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect({ status, signal, stderr }).toEqual({ status: 7, signal: null, stderr: '' });
});
