import { Tensor } from 'onnxruntime-node';
import { HotSwapSession, type HotSwapSessionOptions } from 'rxgrad';
import { describe, expect, it, type TestContext } from 'vitest';
import { channels, type StrategyObserved } from '../../../src/observe/channels.ts';
import { buildModel, floats, node, value } from '../onnx/build-model.ts';

/** A perceptron of one hidden layer. All its weights of version v are v · 1e-6, so that outputs tell the version. */
function perceptron(width: number): Uint8Array {
  const zeros = (length: number) => new Array<number>(length).fill(0);
  return buildModel({
    node: [node('Gemm', ['x', 'w1', 'b1'], ['h']), node('Relu', ['h'], ['r']), node('Gemm', ['r', 'w2', 'b2'], ['y'])],
    initializer: [
      floats('w1', [width, width], zeros(width * width)),
      floats('b1', [width], zeros(width)),
      floats('w2', [width, width], zeros(width * width)),
      floats('b2', [width], zeros(width)),
    ],
    input: [value('x', ['batch', width])],
    output: [value('y', ['batch', width])],
  });
}

const rows = (count: number, width: number) => ({
  x: new Tensor('float32', new Float32Array(count * width), [count, width]),
});

async function load(t: TestContext, width: number, options: HotSwapSessionOptions = {}): Promise<HotSwapSession> {
  const session = await HotSwapSession.load(perceptron(width), undefined, { strategy: 'auto', ...options });
  t.onTestFinished(() => session.dispose());
  return session;
}

function told(t: TestContext): StrategyObserved[] {
  const all: StrategyObserved[] = [];
  const note = (observation: unknown): void => {
    all.push(observation as StrategyObserved);
  };
  channels.strategy.subscribe(note);
  t.onTestFinished(() => {
    channels.strategy.unsubscribe(note);
  });
  return all;
}

async function untilTold(session: HotSwapSession, feeds: Record<string, Tensor>, all: StrategyObserved[], count = 1) {
  const runs: Promise<unknown>[] = [];
  while (all.length < count) {
    runs.push(session.predict(feeds));
    if (runs.length % 4 === 0) await Promise.all(runs.splice(0));
  }
  await Promise.all(runs);
}

describe.each([
  ['a small model, row by row', 8, 1, 0],
  ['a small model in threads', 8, 1, 1],
  ['a large one, in batches', 720, 32, 0],
])('%s', (_, width, batch, workers) => {
  it('is run as its own figures say', async (t) => {
    const session = await load(t, width, { workers });
    expect(session.status.strategy).toEqual({ taken: 'inputs', reason: 'nothing was measured so far' });
    const all = told(t);
    await untilTold(session, rows(batch, width), all);
    const { taken, reason, ...figures } = session.status.strategy;
    expect(all.at(-1)).toMatchObject({ kind: 'strategy', at: session.model, taken, reason });
    expect(figures.batch).toBe(batch);
    // No swaps, and a build that is far below the limit: times alone decide.
    expect(taken).toBe(figures.rebuildMs! / figures.inputsMs! < 0.9 ? 'rebuild' : 'inputs');
  });
});

it('takes inputs where the way to a thread is longer than the run', async (t) => {
  const session = await load(t, 4);
  const all = told(t);
  await untilTold(session, rows(1, 4), all);
  expect(all[0]!.taken).toBe('inputs');
  expect(all[0]!.reason).toMatch(/^rebuild takes .* ms a run of 1 row, inputs .*, which is not below 0.9$/);
});
