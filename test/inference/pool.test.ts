import fc from 'fast-check';
import { Tensor } from 'onnxruntime-node';
import type { HotSwapSession, HotSwapSessionOptions } from 'rxgrad';
import { describe, expect, it, type TestContext } from 'vitest';
import { channels } from '../../src/observe/channels.ts';
import { buildModel, floats, node, value } from './onnx/build-model.ts';
import { load, lookUp, mixing, numbers, openShapes, rows, rowWise, stepper } from './pool-models.ts';

const manyWays: [string, HotSwapSessionOptions][] = [
  ['here, one by one', {}],
  ['here, together', { maxBatch: 8 }],
  ['on two threads, one by one', { workers: 2 }],
  ['on two threads, together', { workers: 2, maxBatch: 8 }],
  ['on a thread, together after a delay', { workers: 1, maxBatch: 8, maxDelayMs: 2 }],
];

/** How often onnxruntime was asked, by how many distinct times a run took: those put together share one. */
async function runsOf(session: HotSwapSession, work: () => Promise<unknown>): Promise<number> {
  const seen = new Set<number>();
  const note = (message: unknown) => seen.add((message as { durationMs: number }).durationMs);
  channels.prediction.subscribe(note);
  await work();
  channels.prediction.unsubscribe(note);
  expect(session.status.queued).toBe(0);
  return seen.size;
}

describe.each(manyWays)('%s', (_, options) => {
  it('gives each its own, with the bits of a run alone', async (t) => {
    const session = await load(t, rowWise, options);
    const alone = await load(t, rowWise);
    const request = fc.record({ count: fc.integer({ min: 0, max: 11 }), pause: fc.constantFrom('none', 'turn', 'answer') });
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 40 }), async (requests) => {
        const asked: Promise<unknown>[] = [];
        for (const [i, { count, pause }] of requests.entries()) {
          const feeds = rows(count, i);
          const answer = Promise.all([session.predict(feeds), alone.predict(feeds)]).then(([got, expected]) => {
            expect(got.outputs.y!.dims).toEqual([count, 3]);
            expect(got.outputs.y!.data).toEqual(expected.outputs.y!.data);
          });
          asked.push(answer);
          if (pause === 'turn') await new Promise(setImmediate);
          if (pause === 'answer') await answer;
        }
        await Promise.all(asked);
      }),
      { numRuns: 30 },
    );
  });

  it('keeps signatures apart, and texts', async (t) => {
    const session = await load(t, openShapes, options);
    const asked = Array.from({ length: 60 }, async (_, i) => {
      const [count, length, words] = [1 + (i % 2), 1 + (i % 3), i % 4];
      const texts = Array.from({ length: count * words }, (_, k) => `${i}·${k}`);
      const { outputs } = await session.predict({
        x: new Tensor('float32', new Float32Array(count * length).fill(i), [count, length]),
        text: new Tensor('string', texts, [count, words]),
      });
      expect(numbers(outputs.y)).toEqual(new Array(count * length).fill(i + 1));
      expect(outputs.y!.dims).toEqual([count, length]);
      expect(outputs.same!.data).toEqual(texts);
      expect(outputs.same!.dims).toEqual([count, words]);
    });
    await Promise.all(asked);
  });

  it('fails a bad one alone', async (t) => {
    const session = await load(t, lookUp, options);
    const ask = (index: bigint) => session.predict({ index: new Tensor('int64', BigInt64Array.of(index), [1]) });
    const answers = await Promise.allSettled([0n, 0n, 5n, 0n].map(ask));
    expect(answers.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
    expect((answers[2] as PromiseRejectedResult).reason).toMatchObject({ code: 'RXGRAD_PREDICTION_FAILED' });
    expect(numbers((await ask(0n)).outputs.y)).toEqual([3, 4]);
  });

  it('runs a kept version, and lets go of it', async (t) => {
    const session = await load(t, rowWise, options);
    const { kept } = session.params;
    const feeds = rows(2);
    const before = await session.predict(feeds);
    const { slot } = await kept.keep({ labels: ['stable'] });
    stepper(session)();
    const asked = [0, 'stable', undefined, 'stable'].map((version) =>
      session.predict(feeds, version === undefined ? {} : { version }),
    );
    const answers = await Promise.all(asked);
    expect(answers.map(({ version }) => version)).toEqual([0, 0, 1, 0]);
    for (const i of [0, 1, 3]) expect(answers[i]!.outputs.y!.data).toEqual(before.outputs.y!.data);
    await expect.poll(() => session.params.leftRight.isFree(slot)).toBe(true);
    await expect(session.predict(feeds, { version: 'canary' })).rejects.toMatchObject({ code: 'RXGRAD_UNKNOWN_VERSION' });
  });
});

describe('together', () => {
  it.for([0, 2])('goes what comes within %i ms, up to the most rows', async (maxDelayMs, t) => {
    const session = await load(t, rowWise, { maxBatch: 16, maxDelayMs });
    expect(session.status.batches).toBe(true);
    const ask = (counts: number[]) => runsOf(session, () => Promise.all(counts.map((count) => session.predict(rows(count)))));
    expect(await ask(new Array(16).fill(1))).toBe(1);
    expect(await ask(new Array(17).fill(1))).toBe(2);
    expect(await ask([9, 9, 7])).toBe(2);
    expect(await ask([40, 1, 1])).toBe(2);
  });

  it('goes nothing where rows depend on each other, with a warning', async (t) => {
    const warned = warning(t, 'RXGRAD_NOT_BATCHABLE');
    const session = await load(t, mixing, { maxBatch: 8 });
    expect(session.status.batches).toBe(false);
    const asked = [1, 2].map((count) =>
      session.predict({ x: new Tensor('float32', new Float32Array(count).fill(1), [count, 1]) }),
    );
    expect((await Promise.all(asked)).map(({ outputs }) => numbers(outputs.y))).toEqual([[1], [1, 2]]);
    expect((await warned).message).toMatch(/depends on other rows/);
  });

  it('goes nothing where a first dimension is fixed', async (t) => {
    const fixed = buildModel({
      node: [node('Add', ['x', 'w'], ['y'])],
      initializer: [floats('w', [1], [1])],
      input: [value('x', [1, 3])],
      output: [value('y', [1, 3])],
    });
    const session = await load(t, fixed, { maxBatch: 8 });
    expect(session.status.batches).toBe(false);
    await Promise.all([session.predict(rows(1)), session.predict(rows(1))]);
  });
});

function warning(t: TestContext, code: string): Promise<Error> {
  return new Promise((resolve) => {
    const hear = (heard: Error & { code?: string }) => {
      if (heard.code === code) resolve(heard);
    };
    process.on('warning', hear);
    t.onTestFinished(() => void process.off('warning', hear));
  });
}
