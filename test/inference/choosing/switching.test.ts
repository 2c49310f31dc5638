import { Tensor } from 'onnxruntime-node';
import type { Parameters } from 'rxgrad';
import { describe, expect, it, type TestContext } from 'vitest';
import { type AutoOptions, AutoRunner } from '../../../src/inference/choosing/auto-runner.ts';
import { RunnerGroup } from '../../../src/inference/choosing/runner-group.ts';
import { readModel } from '../../../src/inference/onnx/model.ts';
import { withWeightsAsInputs } from '../../../src/inference/onnx/with-weights-as-inputs.ts';
import { openRunners } from '../../../src/inference/open-runners.ts';
import type { Feeds } from '../../../src/inference/runner.ts';
import { constantModel } from '../rebuilding/open-rebuild.ts';
import { ofVersion, torn, tornFeeds, width } from '../rebuilding/versioned-model.ts';

const inputs = [
  { name: 'x', type: 'float32', dims: ['batch', width] },
  { name: 'index', type: 'int64', dims: ['batch'] },
];
const one = tornFeeds;
const four: Feeds = {
  x: new Tensor(
    'float32',
    Float32Array.from({ length: 4 * width }, (_, i) => (i % width === 0 ? 1 : 0)),
    [4, width],
  ),
  index: new Tensor('int64', new BigInt64Array(4), [4]),
};

/** A runner that is told what it measures: constants are better row by row, inputs in batches. */
async function openAuto(
  t: TestContext,
  workers: number,
  options: Partial<AutoOptions> = {},
): Promise<{ runner: AutoRunner; params: Parameters }> {
  const { model, params } = constantModel(torn);
  const { bytes } = withWeightsAsInputs(readModel(torn), params.names);
  const { runners } = await openRunners({ ...model.source, bytes }, inputs, params, workers);
  const measure: AutoOptions['measure'] = async ([request]) => {
    const isBatch = (request!.x!.data as Float32Array).length > width;
    return { inputsMs: 1, rebuildMs: isBatch ? 2 : 0.5, buildMs: 1 };
  };
  const runner = new AutoRunner(model, params, workers === 0 ? runners[0]! : new RunnerGroup(runners), {
    workers: Math.max(1, workers),
    everyMs: 0,
    isLocal: workers === 0,
    isUploaded: false,
    ms: undefined,
    versions: undefined,
    measureEveryMs: 0,
    measure,
    ...options,
  });
  t.onTestFinished(() => runner.close());
  return { runner, params };
}

async function client(runner: AutoRunner, isOver: () => boolean, feeds: () => Feeds): Promise<void> {
  let last = 0;
  while (!isOver()) {
    const { outputs, weights } = await runner.run(feeds(), null);
    expect(new Set(outputs.y!.data as Float32Array)).toEqual(new Set([2 * weights.version]));
    expect(weights.version).toBeGreaterThanOrEqual(last);
    last = weights.version;
  }
}

describe.each([0, 2])('with %i threads', (workers) => {
  it('loses no prediction, and no client sees versions go backwards, from one to the other and back', async (t) => {
    const { runner, params } = await openAuto(t, workers);
    let version = 0;
    const stepping = setInterval(() => params.load(ofVersion(++version), { version }), 1);
    t.onTestFinished(() => clearInterval(stepping));
    const taken: string[] = [];
    let feeds: Feeds = one;
    const isOver = () => {
      const now = runner.status.taken;
      if (now !== taken.at(-1)) taken.push(now);
      // The load is another as soon as a strategy was taken for it.
      feeds = now === 'inputs' ? one : four;
      return taken.length > 5;
    };
    await Promise.all(Array.from({ length: Math.max(1, workers) }, () => client(runner, isOver, () => feeds)));
    expect(taken).toEqual(['inputs', 'rebuild', 'inputs', 'rebuild', 'inputs', 'rebuild']);
    clearInterval(stepping);
    // What was kept from going live in between is live.
    expect(params.liveVersion).toBe(version);
  });
});

it('leaves alone what somebody pins meanwhile', async (t) => {
  const { runner, params } = await openAuto(t, 0);
  params.load(ofVersion(1), { version: 1 });
  const kept = await params.kept.keep();
  params.load(ofVersion(2), { version: 2 });
  const isTaken = () => runner.status.taken === 'rebuild';
  let runs = 0;
  const isOver = () => {
    if (++runs === 64) setTimeout(() => params.pin(kept), 30);
    return isTaken() && params.pinned;
  };
  while (!isOver()) await runner.run(one, null);
  while (runner.version !== 1) await runner.run(one, null);
  expect(params.liveVersion).toBe(1);
  params.unpin();
  expect(params.liveVersion).toBe(2);
});

it('runs versions that are kept as inputs, whatever is taken', async (t) => {
  const { runner, params } = await openAuto(t, 2);
  params.load(ofVersion(1), { version: 1 });
  const { slot } = await params.kept.keep();
  params.load(ofVersion(2), { version: 2 });
  while (runner.status.taken === 'inputs') await runner.run(one, null);
  const asked = await Promise.all(Array.from({ length: 9 }, () => runner.run(four, slot)));
  expect(new Set(asked.map(({ weights }) => weights.version))).toEqual(new Set([1]));
  expect((await runner.run(one, null)).weights.version).toBe(2);
});

it('stays with inputs, and says why, where it cannot measure', async (t) => {
  const { runner } = await openAuto(t, 0, { measure: () => Promise.reject(new Error('no thread to be had')) });
  while (runner.status.reason === 'nothing was measured so far') await runner.run(one, null);
  expect(runner.status).toEqual({ taken: 'inputs', reason: 'it could not be measured: no thread to be had' });
});
