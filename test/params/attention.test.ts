import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import { gradientBatch, Parameters, sgd } from 'rxgrad';
import { firstValueFrom, of, tap } from 'rxjs';
import { afterEach, expect, it } from 'vitest';
import { attention } from '../../src/params/attention.ts';

let begun = 0;
afterEach(() => {
  for (; begun > 0; begun--) attention.end();
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

it('is wanted for a while behind a prediction', async () => {
  begin();
  attention.end();
  begun -= 1;
  expect(attention.isWanted).toBe(true);
  await new Promise((resolve) => setTimeout(resolve, 150));
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
  const alone = await stepped();
  begin();
  const beside = await stepped();
  expect(beside.turns).toBeGreaterThan(16);
  expect(Buffer.compare(beside.bits, alone.bits)).toBe(0);
});
