import type { Worker } from 'node:worker_threads';
import { Parameters } from 'rxgrad';
import type { TestContext } from 'vitest';
import { readModel } from '../../../src/inference/onnx/model.ts';
import { trainableInitializers } from '../../../src/inference/onnx/trainable-initializers.ts';
import { withExternalWeights } from '../../../src/inference/onnx/with-external-weights.ts';
import type { ThreadModel } from '../../../src/inference/open-session.ts';
import { type RebuildOptions, RebuildRunner } from '../../../src/inference/rebuilding/rebuild-runner.ts';
import type { Feeds } from '../../../src/inference/runner.ts';

export interface Opened {
  readonly runner: RebuildRunner;
  readonly params: Parameters;
  /** The threads that it has started until now. */
  readonly threads: Worker[];
}

/** Parameters of a model, and the model without them. */
export function constantModel(onnx: string | Uint8Array): { model: ThreadModel; params: Parameters } {
  const model = readModel(onnx);
  const weights = trainableInitializers(model);
  const params = Parameters.create(Object.fromEntries(weights.map(({ name, dims, data }) => [name, { dims, data }])));
  const { bytes } = withExternalWeights(model, params.places);
  const names = model.graph.input.map(({ name }) => name);
  return { model: { source: { ...model, bytes }, options: {}, inputNames: names }, params };
}

/** A runner that rebuilds, for as long as the test runs. */
export async function openRebuild(
  t: TestContext,
  onnx: string | Uint8Array,
  request: Feeds,
  options: Partial<RebuildOptions> = {},
): Promise<Opened> {
  const { model, params } = constantModel(onnx);
  const threads: Worker[] = [];
  const note = (worker: Worker): void => {
    threads.push(worker);
  };
  process.on('worker', note);
  t.onTestFinished(() => {
    process.off('worker', note);
  });
  const kept = { run: () => Promise.reject(new Error('not asked for here')), close: async () => {} };
  const runner = await RebuildRunner.open(model, params, { workers: 1, everyMs: 0, kept, ...options, request });
  t.onTestFinished(() => runner.close());
  return { runner, params, threads };
}

/** Asks until what is served is the given version. */
export async function untilServed(runner: RebuildRunner, version: number, feeds: Feeds): Promise<void> {
  for (;;) {
    const { weights } = await runner.run(feeds, null);
    if (weights.version === version) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
