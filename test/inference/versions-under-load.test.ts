import { Tensor } from 'onnxruntime-node';
import type { HotSwapSession, HotSwapSessionOptions, PredictOptions } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { extremes, load } from './pool-models.ts';

const length = 1000;
const clients = 300;
const x = new Tensor('float32', new Float32Array(1), [1, 1]);
const ways: [string, HotSwapSessionOptions][] = [
  ['on this thread', {}],
  ['on this thread, together', { maxBatch: 8 }],
  ['on two threads', { workers: 2, maxBatch: 8 }],
];

const loadVersion = ({ params }: HotSwapSession, version: number) =>
  params.load({ w: new Float32Array(length).fill(version) }, { version });

function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

describe.each(ways)('%s', (_, options) => {
  it('weights are loaded at once while predictions are under way, warm or cold', async (t) => {
    const session = await load(t, extremes(length), options);
    for (let version = 1; version < 40; version += 3) {
      const asked = [session.predict({ x }), session.predict({ x })];
      for (let more = 0; more < 3; more++) loadVersion(session, version + more);
      for (const answer of await Promise.all(asked)) expect(answer.outputs.low!.data[0]).toBe(answer.version);
    }
  });

  it('weights are loaded at once while versions are being kept', async (t) => {
    const session = await load(t, extremes(length), options);
    for (let version = 1; version < 40; version += 3) {
      const keeping = session.keep(['stable']);
      for (let more = 0; more < 3; more++) loadVersion(session, version + more);
      const kept = await keeping;
      const { outputs, version: asked } = await session.predict({ x }, { version: 'stable' });
      expect([asked, outputs.low!.data[0], outputs.high!.data[0]]).toEqual([kept.version, kept.version, kept.version]);
    }
  });

  it('a version that is gone back to stays, though the next one that is kept would take its place', async (t) => {
    const session = await load(t, extremes(length), { ...options, keep: { last: 1, everyMs: 1e9 } });
    const [, first] = [loadVersion(session, 1), await session.keep()];
    loadVersion(session, 2);
    const [, back] = await Promise.all([session.keep(), session.rollback(first.version)]);
    const { outputs, version } = await session.predict({ x });
    expect([back.version, version, outputs.low!.data[0], outputs.high!.data[0]]).toEqual([1, 1, 1, 1]);
  });

  it('a version that is asked for by its number answers, or nothing does', async (t) => {
    const session = await load(t, extremes(length), options);
    await session.predict({ x });
    let newest = 0;
    for (let round = 0; round < 30; round++) {
      loadVersion(session, ++newest);
      const wanted = newest;
      const asking = Array.from({ length: 5 }, () => session.predict({ x }, { version: wanted, deadlineMs: 60_000 }));
      if (round % 2 === 0) await session.keep();
      loadVersion(session, ++newest);
      for (const answer of await Promise.allSettled(asking)) {
        if (answer.status === 'rejected') expect(answer.reason).toMatchObject({ code: 'RXGRAD_UNKNOWN_VERSION' });
        else expect([answer.value.version, answer.value.outputs.low!.data[0]]).toEqual([wanted, wanted]);
      }
    }
  });

  it('no prediction fails or is torn by loads, keeps, pins and rollbacks, and no mark is left', {
    timeout: 60_000,
  }, async (t) => {
    const session = await load(t, extremes(length), { ...options, keep: { last: 3, everyVersions: 4 } });
    const { params } = session;
    const next = random(20);
    let isOn = true;
    const answers: Record<string, number> = {};
    const ask = async (i: number): Promise<void> => {
      const optionsOf = (): PredictOptions | undefined => {
        if (i % 10 === 0) return { version: 'stable' };
        if (i % 10 === 1) return { version: session.version };
        return i % 10 === 2 ? { signal: AbortSignal.timeout(1) } : undefined;
      };
      while (isOn) {
        try {
          const { version, outputs } = await session.predict({ x }, optionsOf());
          const isWhole = outputs.low!.data[0] === version && outputs.high!.data[0] === version;
          answers[isWhole ? 'whole' : 'torn'] = (answers[isWhole ? 'whole' : 'torn'] ?? 0) + 1;
        } catch (error) {
          const { code } = error as { code: string };
          answers[code] = (answers[code] ?? 0) + 1;
          await new Promise(setImmediate);
        }
      }
    };
    await session.keep(['stable']);
    const asking = Array.from({ length: clients }, (_, i) => ask(i));
    let newest = 0;
    for (let i = 0; i < 400; i++) {
      const what = next();
      if (what < 0.4) loadVersion(session, ++newest);
      else if (what < 0.6) {
        const keeping = session.keep(next() < 0.3 ? ['stable'] : []);
        if (next() < 0.5) await keeping;
      } else if (what < 0.75) {
        const kept = params.kept.list();
        await session.pin(kept[Math.floor(next() * kept.length)]?.version);
      } else if (what < 0.9) session.unpin();
      else if (params.kept.list().some(({ version }) => version < params.liveVersion)) await session.rollback();
      if (next() < 0.3) await new Promise(setImmediate);
    }
    isOn = false;
    await Promise.all(asking);
    expect(answers.whole).toBeGreaterThan(300);
    // A version that was live when it was asked for may be gone since, and is not kept.
    const { whole, RXGRAD_PREDICTION_ABORTED: aborted, RXGRAD_UNKNOWN_VERSION: gone, ...others } = answers;
    expect(others).toEqual({});
    const slots = Array.from({ length: 64 }, (_, slot) => slot);
    await expect.poll(() => slots.filter((slot) => !params.leftRight.isFree(slot))).toEqual([]);
  });
});
