import { gradientBatch, hotSwap, optimizer } from 'rxgrad';
import { of } from 'rxjs';
import { describe, expect, it, type TestContext, vi } from 'vitest';
import { load, rows, rowWise } from './pool-models.ts';

const step = gradientBatch({ gradients: { shift: new Float32Array(3) } });

async function behind(t: TestContext, versions: number, options: object) {
  const session = await load(t, rowWise, options);
  of(...new Array(versions).fill(step))
    .pipe(optimizer(session.params, { type: 'SGD', lr: 1 }))
    .subscribe();
  return session;
}

describe('a prediction', () => {
  it('carries version, age and position of its weights', async (t) => {
    const session = await load(t, rowWise);
    expect(await session.predict(rows(1))).toMatchObject({ version: 0, position: null, stale: false });
    const position = { topic: 'gradients', partition: 2, offset: 41 };
    const { message } = step;
    const delivered = Object.assign(Object.create(Object.getPrototypeOf(step)), {
      ...step,
      message: { ...message, delivery: { position, source: { done: () => {} } } },
    });
    of(delivered)
      .pipe(optimizer(session.params, { type: 'SGD', lr: 1 }), hotSwap(session))
      .subscribe();
    const prediction = await session.predict(rows(1));
    expect(prediction).toMatchObject({ version: 1, position });
    expect(prediction.ageMs).toBeLessThan(10_000);
  });

  it.for([0, 1])('says the same from %i threads', async (workers, t) => {
    const session = await load(t, rowWise, { workers });
    const { madeAtMs } = session.params.live;
    await new Promise((resolve) => setTimeout(resolve, 20));
    const { ageMs } = await session.predict(rows(1));
    expect(ageMs).toBeGreaterThanOrEqual(19);
    expect(ageMs).toBeLessThanOrEqual(Date.now() - madeAtMs);
  });
});

describe('stale weights', () => {
  it('are served as such', async (t) => {
    const session = await behind(t, 3, { maxStaleness: { versions: 2 } });
    expect(await session.predict(rows(1))).toMatchObject({ version: 0, stale: true });
    session.swap();
    expect(await session.predict(rows(1))).toMatchObject({ version: 3, stale: false });
  });

  it('are rejected', async (t) => {
    const session = await behind(t, 3, { maxStaleness: { versions: 2, action: 'reject' } });
    await expect(session.predict(rows(1))).rejects.toMatchObject({
      code: 'RXGRAD_STALE_WEIGHTS',
      disposition: 'retry',
      status: 503,
      message: expect.stringMatching(/expected weights at most 2 versions behind 3, got those of version 0/),
    });
    await session.params.kept.keep({ labels: ['old'] });
    expect(await session.predict(rows(1), { version: 'old' })).toMatchObject({ version: 0, stale: false });
  });

  it('are warned of once a minute', async (t) => {
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    t.onTestFinished(() => warn.mockRestore());
    const session = await behind(t, 3, { maxStaleness: { versions: 0, action: 'warn' } });
    for (let i = 0; i < 5; i++) expect((await session.predict(rows(1))).stale).toBe(true);
    expect(warn).toHaveBeenCalledTimes(1);
    expect(warn.mock.calls[0]![1]).toEqual({ type: 'StaleWeightsWarning', code: 'RXGRAD_STALE_WEIGHTS' });
  });

  it('are so by their age', async (t) => {
    const session = await load(t, rowWise, { maxStaleness: { ms: 10, action: 'reject' } });
    await new Promise((resolve) => setTimeout(resolve, 20));
    await expect(session.predict(rows(1))).rejects.toThrow(/expected weights of at most 10 ms/);
  });
});
