import { Tensor } from 'onnxruntime-node';
import { HotSwapSession } from 'rxgrad';
import { expect, it, type TestContext } from 'vitest';
import { denseModel } from '../../bench/dense-model.ts';

const feeds = { x: new Tensor('float32', [1], [1, 1]) };

/** A session whose answer is its only weight. */
async function load(t: TestContext): Promise<HotSwapSession> {
  const session = await HotSwapSession.load(denseModel(1));
  t.onTestFinished(() => session.dispose());
  return session;
}

it('a prediction computes with the version that was asked for, whatever was kept in its place before', async (t) => {
  const session = await load(t);
  const { kept } = session.params;
  const held: number[] = [];
  for (let version = 1; version <= 150; version++) {
    kept.add({ version, madeAtMs: 0, position: null }, { w: Float32Array.of(version) });
    held.push(version);
    for (const one of held) {
      const { outputs } = await session.predict(feeds, { version: one });
      expect(outputs.y!.data[0]).toBe(one);
    }
    // Not the oldest each time, so that a place comes with other memory.
    while (held.length >= 4) kept.forget(held.splice(version % 3, 1)[0]!);
  }
});

it('predictions at once take the newest version, one that is asked for, or another, each its own', async (t) => {
  const session = await load(t);
  const { params } = session;
  for (const version of [1, 2]) params.kept.add({ version, madeAtMs: 0, position: null }, { w: Float32Array.of(version) });
  params.load({ w: [30] }, { version: 30 });
  for (let round = 0; round < 20; round++) {
    params.load({ w: [31 + round] }, { version: 31 + round });
    const asked = [{ version: 1 }, undefined, { version: 2 }, undefined, { version: 1 }];
    const answers = await Promise.all(asked.map((options) => session.predict(feeds, options)));
    const newest = 31 + round;
    expect(answers.map(({ outputs, version }) => [outputs.y!.data[0], version])).toEqual(
      [1, newest, 2, newest, 1].map((version) => [version, version]),
    );
  }
});

it('a prediction that is called and waits takes the weights that are live when it computes, and says which', async (t) => {
  const session = await load(t);
  const { params } = session;
  // The first one finds out when onnxruntime looks at what it is fed.
  await session.predict(feeds);
  for (let version = 1; version <= 50; version++) {
    const answer = session.predict(feeds);
    params.load({ w: [version] }, { version });
    const { outputs, version: said } = await answer;
    expect(outputs.y!.data[0]).toBe(said);
    expect(said).toBe(version);
  }
});

it('what was fed is let go, and the next prediction has its own', async (t) => {
  const session = await load(t);
  session.params.load({ w: [2] });
  for (let value = 1; value <= 20; value++) {
    const { outputs } = await session.predict({ x: new Tensor('float32', [value, -value], [2, 1]) });
    expect([...(outputs.y!.data as Float32Array)]).toEqual([2 * value, -2 * value]);
  }
});
