import type { Worker } from 'node:worker_threads';
import { Tensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { readModel } from '../../../src/inference/onnx/model.ts';
import { withInitializers } from '../../../src/inference/onnx/with-initializers.ts';
import { buildModel, floats, node, value } from '../onnx/build-model.ts';
import { example, exampleNames, feedsOf, run } from '../onnx/example-models.ts';
import { openRebuild, untilServed } from './open-rebuild.ts';
import { ofVersion, torn, tornFeeds, width } from './versioned-model.ts';

describe.each(exampleNames)('%s', (name) => {
  it('predicts, bit for bit, as a session that was built of the same weights', async (t) => {
    const { path } = example(name);
    const feeds = feedsOf(example(name));
    const { runner, params } = await openRebuild(t, path, feeds);
    const [output] = runner.opening.outputs;
    const ask = async () => Array.from((await runner.run(feeds, null)).outputs[output!.name]!.data as Float32Array);
    expect(await ask()).toEqual(await run(t, path, feeds));

    const changed = Object.fromEntries(
      [...params].map(({ name: weight, data }) => [weight, data.map((x, i) => 0.9 * x + 0.05 * Math.sin(i))]),
    );
    params.load(changed);
    await untilServed(runner, 1, feeds);
    expect(await ask()).toEqual(await run(t, withInitializers(readModel(path), changed), feeds));
  });
});

describe('versions', () => {
  it('are whole, and never go backwards, while weights change without pause', async (t) => {
    const { runner, params } = await openRebuild(t, torn, tornFeeds, { workers: 2 });
    let version = 0;
    const stepping = setInterval(() => {
      version++;
      params.load(ofVersion(version), { version });
      runner.changed();
    }, 1);
    t.onTestFinished(() => clearInterval(stepping));
    const seen = new Set<number>();
    const client = async () => {
      let last = 0;
      for (let i = 0; i < 3000; i++) {
        const { outputs, weights } = await runner.run(tornFeeds, null);
        expect(new Set(outputs.y!.data as Float32Array)).toEqual(new Set([2 * weights.version]));
        expect(weights.version).toBeGreaterThanOrEqual(last);
        last = weights.version;
        seen.add(last);
      }
    };
    await Promise.all([client(), client(), client()]);
    expect(seen.size).toBeGreaterThan(5);
  });

  it('follow a version that is kept, and back', async (t) => {
    const { runner, params } = await openRebuild(t, torn, tornFeeds);
    params.load(ofVersion(1), { version: 1 });
    const kept = await params.kept.keep();
    params.load(ofVersion(2), { version: 2 });
    await untilServed(runner, 2, tornFeeds);
    params.pin(kept);
    await untilServed(runner, 1, tornFeeds);
    const { outputs } = await runner.run(tornFeeds, null);
    expect(new Set(outputs.y!.data as Float32Array)).toEqual(new Set([2]));
    params.load(ofVersion(3), { version: 3 });
    expect((await runner.run(tornFeeds, null)).weights.version).toBe(1);
    params.unpin();
    await untilServed(runner, 3, tornFeeds);
  });

  it('change not more often than told', async (t) => {
    const { runner, params } = await openRebuild(t, torn, tornFeeds, { everyMs: 60_000 });
    params.load(ofVersion(1), { version: 1 });
    for (let i = 0; i < 50; i++) {
      expect((await runner.run(tornFeeds, null)).weights.version).toBe(0);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  });

  it('that are asked for by their slot run elsewhere', async (t) => {
    const slots: number[] = [];
    const weights = { version: 7, madeAtMs: 0, topic: -1, partition: 0, offset: 0 };
    const kept = {
      run: async (_: unknown, slot: number) => {
        slots.push(slot);
        return { outputs: {}, weights, durationMs: 0 };
      },
      close: async () => {},
    };
    const { runner } = await openRebuild(t, torn, tornFeeds, { kept });
    expect((await runner.run(tornFeeds, 5)).weights.version).toBe(7);
    expect(slots).toEqual([5]);
  });
});

describe('a thread that dies', () => {
  it('while it serves takes its runs with it, and is replaced', async (t) => {
    const { runner, threads } = await openRebuild(t, torn, tornFeeds);
    const capacities: number[] = [];
    runner.onCapacity = () => capacities.push(runner.capacity);
    const dying = runner.run(tornFeeds, null).then(
      () => 'done',
      (error) => error.code,
    );
    await Promise.all(threads.map((thread) => thread.terminate()));
    expect(['done', 'RXGRAD_PREDICTION_FAILED']).toContain(await dying);
    expect(capacities[0]).toBe(0);
    while (runner.capacity === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    expect((await runner.run(tornFeeds, null)).weights.version).toBe(0);
  });

  it('while it builds leaves what serves', async (t) => {
    const { runner, params, threads } = await openRebuild(t, torn, tornFeeds);
    const [first] = threads;
    params.load(ofVersion(1), { version: 1 });
    runner.changed();
    await first!.terminate();
    expect((await runner.run(tornFeeds, null)).outputs.y!.data).toHaveLength(2 * width);
    await untilServed(runner, 1, tornFeeds);
  });
});

describe('a build that fails', () => {
  it('leaves what serves, warns once, and is tried again', async (t) => {
    const { runner, params, threads } = await openRebuild(t, torn, tornFeeds);
    const warnings: Error[] = [];
    const note = (warning: Error): void => {
      if ('code' in warning && warning.code === 'RXGRAD_REBUILD_FAILED') warnings.push(warning);
    };
    process.on('warning', note);
    const doomed = 3;
    let ended = 0;
    const kill = (worker: Worker): void => {
      if (++ended <= doomed) worker.terminate();
    };
    process.on('worker', kill);
    t.onTestFinished(() => {
      process.off('warning', note).off('worker', kill);
    });
    await threads[0]!.terminate();
    params.load(ofVersion(1), { version: 1 });
    expect((await runner.run(tornFeeds, null)).weights.version).toBe(0);
    await untilServed(runner, 1, tornFeeds);
    expect(ended).toBe(doomed + 1);
    expect(warnings.map(({ message }) => message)).toEqual([
      expect.stringMatching(/no session could be built .* ended .* Version 0 stays in use until one can/),
    ]);
  });

  it('at first is an error', async (t) => {
    const bad = buildModel({
      node: [node('NoSuchOperator', ['x', 'w'], ['y'])],
      initializer: [floats('w', [2], [1, 2])],
      input: [value('x', [2])],
      output: [value('y', [2])],
    });
    const x = new Tensor('float32', [1, 2], [2]);
    await expect(openRebuild(t, bad, { x })).rejects.toThrow(/NoSuchOperator/);
  });
});

it('can be closed during a build', async (t) => {
  const { runner, params, threads } = await openRebuild(t, torn, tornFeeds, { workers: 2 });
  params.load(ofVersion(1), { version: 1 });
  const running = runner.run(tornFeeds, null);
  await runner.close();
  expect((await running).outputs.y!.data).toHaveLength(2 * width);
  expect(threads.map(({ threadId }) => threadId)).toEqual([-1, -1, -1, -1]);
  // The writer is free to step in place again: no reader is left.
  expect(params.leftRight.target).toBe(params.leftRight.latest);
});

it('keeps memory flat over 200 builds', async (t) => {
  const { runner, params } = await openRebuild(t, torn, tornFeeds);
  let version = 0;
  const build = async (times: number) => {
    for (let i = 0; i < times; i++) {
      version++;
      params.load(ofVersion(version), { version });
      await untilServed(runner, version, tornFeeds);
    }
  };
  await build(50);
  const resident = process.memoryUsage.rss();
  await build(200);
  expect((process.memoryUsage.rss() - resident) / 2 ** 20, 'MiB').toBeLessThan(24);
});
