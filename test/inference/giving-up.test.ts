import { getEventListeners } from 'node:events';
import type { HotSwapSessionOptions } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { load, rows, rowWise } from './pool-models.ts';

const manyWays: [string, HotSwapSessionOptions][] = [
  ['here, one by one', {}],
  ['here, together', { maxBatch: 8 }],
  ['on a thread', { workers: 1, maxBatch: 4 }],
];

/** Blocks the event loop. */
function block(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

describe.each(manyWays)('%s', (_, options) => {
  it('a prediction that its caller gives up is not run, or not heard of', async (t) => {
    const session = await load(t, rowWise, options);
    const controller = new AbortController();
    const { signal } = controller;
    const asked = Array.from({ length: 20 }, (_, i) => session.predict(rows(1), i % 2 === 0 ? { signal } : {}));
    const answers = Promise.allSettled(asked);
    controller.abort(new Error('the client hung up'));
    for (const [i, answer] of (await answers).entries()) {
      expect(answer.status).toBe(i % 2 === 0 ? 'rejected' : 'fulfilled');
      if (answer.status === 'rejected') {
        expect(answer.reason).toMatchObject({ code: 'RXGRAD_PREDICTION_ABORTED', cause: { message: 'the client hung up' } });
      }
    }
    await expect(session.predict(rows(1), { signal })).rejects.toMatchObject({ code: 'RXGRAD_PREDICTION_ABORTED' });
    expect(session.status.queued).toBe(0);
  });

  it('nothing listens to a signal longer than the prediction takes', async (t) => {
    const session = await load(t, rowWise, options);
    const { signal } = new AbortController();
    for (let i = 0; i < 20; i++) await Promise.all([session.predict(rows(1), { signal }), session.predict(rows(2), { signal })]);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  it('a prediction that comes too late fails, and leaves the queue', async (t) => {
    const session = await load(t, rowWise, options);
    const late = session.predict(rows(1), { deadlineMs: 5 });
    const inTime = session.predict(rows(1), { deadlineMs: 20_000 });
    block(30);
    const [first, second] = await Promise.allSettled([late, inTime]);
    expect(second.status).toBe('fulfilled');
    // Where it was with a runner already, the answer may have come first.
    if (first.status === 'rejected') {
      expect(first.reason).toMatchObject({ code: 'RXGRAD_DEADLINE_EXCEEDED', status: 504, details: { deadlineMs: 5 } });
    }
    expect(session.status.queued).toBe(0);
  });

  it('one too many is refused at once', async (t) => {
    const session = await load(t, rowWise, { ...options, maxQueue: 5 });
    const answers = await Promise.allSettled(Array.from({ length: 50 }, () => session.predict(rows(1))));
    const refused = answers.filter((answer) => answer.status === 'rejected');
    expect(refused.length).toBeGreaterThan(35);
    expect(refused.length).toBeLessThan(50);
    for (const { reason } of refused)
      expect(reason).toMatchObject({ code: 'RXGRAD_OVERLOADED', disposition: 'retry', status: 429 });
    await expect(session.predict(rows(1))).resolves.toMatchObject({ version: 0 });
  });

  it('an end waits for what is running, and fails what waits', async (t) => {
    const session = await load(t, rowWise, options);
    const asked = Array.from({ length: 30 }, () => session.predict(rows(1), { deadlineMs: 10_000 }));
    const settled = Promise.allSettled(asked);
    await new Promise(setImmediate);
    await session.dispose();
    for (const answer of await settled) {
      if (answer.status === 'rejected') expect(answer.reason).toMatchObject({ code: 'RXGRAD_SESSION_CLOSED' });
    }
    await expect(session.predict(rows(1))).rejects.toMatchObject({ code: 'RXGRAD_SESSION_CLOSED' });
  });
});

it.for([0, -1, Number.NaN, 2 ** 31])('a deadline of %d is refused', async (deadlineMs, t) => {
  const session = await load(t, rowWise);
  await expect(session.predict(rows(1), { deadlineMs })).rejects.toMatchObject({ code: 'RXGRAD_INVALID_OPTION' });
});

it('a kept version is not held for a prediction that was given up', async (t) => {
  const session = await load(t, rowWise, { maxBatch: 4 });
  const { slot } = await session.params.kept.keep();
  const controller = new AbortController();
  const asked = session.predict(rows(1), { version: 0, signal: controller.signal });
  controller.abort();
  await expect(asked).rejects.toThrow();
  expect(session.params.leftRight.isFree(slot)).toBe(true);
});
