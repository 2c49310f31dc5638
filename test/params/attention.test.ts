import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import { gradientBatch, Parameters, sgd } from 'rxgrad';
import { firstValueFrom, of, tap } from 'rxjs';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { attention } from '../../src/params/attention.ts';

let begun = 0;
/** Goes on with each look, and where a test says so: what is counted here does not depend on the machine. */
let nowMs = 0;
let lookMs = 0;
beforeEach(() => {
  lookMs = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => {
    nowMs += lookMs;
    return nowMs;
  });
});
afterEach(() => {
  for (; begun > 0; begun--) attention.end();
  vi.restoreAllMocks();
});

function begin(): void {
  attention.begin();
  begun += 1;
}

/** Turns of the event loop while something is waited for. */
async function turnsOf(work: Promise<unknown>): Promise<number> {
  let turns = 0;
  let isDone = false;
  const done = work.then(() => {
    isDone = true;
  });
  while (!isDone) {
    await eventLoopTurn();
    turns += 1;
  }
  await done;
  return turns;
}

it('gives predictions that are under way some turns, and all else one', async () => {
  const alone = await turnsOf(attention.turn());
  begin();
  expect(attention.isWanted).toBe(true);
  const beside = await turnsOf(attention.turn());
  expect(alone).toBeLessThanOrEqual(2);
  expect(beside).toBeGreaterThan(10);
  expect(beside).toBeLessThan(20);
});

it('gives them no turns for longer than a step may wait', async () => {
  begin();
  const turn = attention.turn();
  nowMs += 3;
  expect(await turnsOf(turn)).toBeLessThanOrEqual(2);
});

it('is wanted for a while behind a prediction', () => {
  begin();
  attention.end();
  begun -= 1;
  expect(attention.isWanted).toBe(true);
  nowMs += 99;
  expect(attention.isWanted).toBe(true);
  nowMs += 1;
  expect(attention.isWanted).toBe(false);
});

it('gives work as long a stretch as predictions have had, within bounds, and half a millisecond where nobody waits', async () => {
  const turnOf = async (ms: number): Promise<void> => {
    const turn = attention.turn();
    nowMs += ms;
    await turn;
  };
  nowMs += 1000;
  expect([attention.isWanted, attention.stretchMs]).toEqual([false, 0.5]);
  begin();
  await turnOf(0.25);
  expect(attention.stretchMs).toBe(0.25);
  await turnOf(1.5);
  expect(attention.stretchMs).toBe(1.5);
  await turnOf(50);
  expect(attention.stretchMs).toBe(2);
});

it('is wanted until the last of several predictions has ended', () => {
  begin();
  begin();
  attention.end();
  begun -= 1;
  nowMs += 1000;
  expect(attention.isWanted).toBe(true);
  attention.end();
  begun -= 1;
  nowMs += 1000;
  expect(attention.isWanted).toBe(false);
});

it('makes steps of other threads come in between, with the same bits', async () => {
  const length = 2 ** 20;
  const data = Float32Array.from({ length }, (_, i) => Math.sin(i));
  const stepped = async (): Promise<{ turns: number; bits: Uint8Array }> => {
    const params = Parameters.create({ w: { dims: [length], data } });
    const batch = gradientBatch({ gradients: { w: data } });
    let bits = new Uint8Array();
    const update$ = of(batch).pipe(
      sgd(params, { lr: 0.1, threads: 1 }),
      tap(({ weights }) => {
        bits = new Uint8Array(weights.w!.slice().buffer);
      }),
    );
    return { turns: await turnsOf(firstValueFrom(update$)), bits };
  };
  // A look later the step has had its time.
  lookMs = 1;
  const alone = await stepped();
  begin();
  const turn = vi.spyOn(attention, 'turn');
  const beside = await stepped();
  expect(turn).toHaveBeenCalled();
  // Three looks later those who predict have had theirs.
  expect(beside.turns).toBeGreaterThanOrEqual(3 * turn.mock.calls.length);
  expect(Buffer.compare(beside.bits, alone.bits)).toBe(0);
});
