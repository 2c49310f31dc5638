import { setImmediate as turn } from 'node:timers/promises';
import { Tensor } from 'onnxruntime-node';
import { expect, it, onTestFinished, vi } from 'vitest';
import { RxgradError } from '../../src/errors.ts';
import type { AskOptions } from '../../src/inference/asked.ts';
import { Pool, type PoolOptions } from '../../src/inference/pool.ts';
import type { Feeds, Runner, RunResult } from '../../src/inference/runner.ts';
import { Parameters } from '../../src/params/parameters.ts';
import { eventually } from '../eventually.ts';

const model = {
  name: 'm',
  inputs: [{ name: 'x', type: 'float32', dims: ['n', 'w'] }],
  outputs: [{ name: 'y', type: 'float32', dims: ['n', 'w'] }],
};

/** Some rows of a number, and how wide they are. */
const rows = (value: number, count = 1, width = 1): Feeds => ({
  x: new Tensor('float32', new Float32Array(count * width).fill(value), [count, width]),
});

/** A runner whose runs end when they are told to: each gives back what it was fed. */
class ToldRunner implements Runner {
  capacity = 1;
  onCapacity: (() => void) | null = null;
  failure: RxgradError | null = null;
  closed = false;
  readonly runs: { feeds: Feeds; slot: number | null; end(error?: Error): void }[] = [];

  /** The first number of each run, and its rows. */
  get seen(): [number, number][] {
    return this.runs.map(({ feeds }) => [Number(feeds.x!.data[0]), feeds.x!.dims[0]!]);
  }

  run(feeds: Feeds, slot: number | null): Promise<RunResult> {
    const { promise, resolve, reject } = Promise.withResolvers<RunResult>();
    const result = { outputs: { y: feeds.x! }, weights: { version: 0 } as RunResult['weights'], durationMs: 1 };
    this.runs.push({ feeds, slot, end: (error) => (error ? reject(error) : resolve(result)) });
    return promise;
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

function pooled(options: Partial<PoolOptions> = {}, count = 1) {
  const runners = Array.from({ length: count }, () => new ToldRunner());
  const params = Parameters.create({ w: { dims: [1] } });
  const pool = new Pool(model, runners, params.reader(), { maxBatch: 1, maxDelayMs: 0, maxQueue: 10, ...options });
  const ask = (feeds: Feeds, asked?: AskOptions, slot: number | null = null): Promise<number[] | string> =>
    pool.ask(feeds, slot, asked).then(
      ({ outputs }) => [...(outputs.y!.data as Float32Array)],
      (error: RxgradError) => error.key,
    );
  return { pool, runners, params, ask };
}

async function settled(): Promise<void> {
  for (let turns = 0; turns < 5; turns++) await turn();
}

it('predictions wait in the order in which they came, and go to the runner with the least to do', async () => {
  const { runners, ask } = pooled({}, 2);
  const [first, second] = runners as [ToldRunner, ToldRunner];
  first.capacity = 2;
  const answers = [1, 2, 3, 4, 5].map((value) => ask(rows(value)));
  await settled();
  expect([first.seen, second.seen]).toEqual([
    [
      [1, 1],
      [3, 1],
    ],
    [[2, 1]],
  ]);
  second.runs[0]!.end();
  await settled();
  expect(second.seen.at(-1)).toEqual([4, 1]);
  first.runs[1]!.end();
  await settled();
  expect(first.seen.at(-1)).toEqual([5, 1]);
  for (const { runs } of runners) for (const { end } of runs) end();
  expect(await Promise.all(answers)).toEqual([[1], [2], [3], [4], [5]]);
});

it('what comes in one turn is one run, up to so many rows, and each gets its own', async () => {
  const { runners, ask } = pooled({ maxBatch: 4 });
  const [runner] = runners as [ToldRunner];
  const answers = [ask(rows(1)), ask(rows(2, 2)), ask(rows(3)), ask(rows(4))];
  expect(runner.runs).toEqual([]);
  await settled();
  expect(runner.seen).toEqual([[1, 4]]);
  runner.runs[0]!.end();
  await settled();
  expect(runner.seen).toEqual([
    [1, 4],
    [4, 1],
  ]);
  runner.runs[1]!.end();
  expect(await Promise.all(answers)).toEqual([[1], [2, 2], [3], [4]]);
});

it('one with more rows than a batch may have runs, alone', async () => {
  const { runners, ask } = pooled({ maxBatch: 2 });
  const [runner] = runners as [ToldRunner];
  const answers = [ask(rows(1, 3)), ask(rows(2))];
  await settled();
  expect(runner.seen).toEqual([[1, 3]]);
  runner.runs[0]!.end();
  await settled();
  runner.runs[1]!.end();
  expect(await Promise.all(answers)).toEqual([[1, 1, 1], [2]]);
});

it('rows of other widths, and of other versions, are runs of their own; the oldest goes first', async () => {
  const { runners, ask, params } = pooled({ maxBatch: 8 });
  const [runner] = runners as [ToldRunner];
  const kept = params.kept.add({ version: 7, madeAtMs: 0, position: null }, { w: Float32Array.of(1) });
  const answers = [ask(rows(1)), ask(rows(2, 1, 2)), ask(rows(3), undefined, kept.slot), ask(rows(4)), ask(rows(5, 1, 2))];
  for (let run = 0; run < 3; run++) {
    await settled();
    runner.runs[run]!.end();
  }
  expect(await Promise.all(answers)).toEqual([[1], [2, 2], [3], [4], [5, 5]]);
  expect(runner.seen).toEqual([
    [1, 2],
    [2, 2],
    [3, 1],
  ]);
  expect(runner.runs.map(({ slot }) => slot)).toEqual([null, null, kept.slot]);
  await settled();
  params.kept.forget(7);
});

it('predictions wait for company for maxDelayMs at most, and not where a batch is full', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const { runners, ask } = pooled({ maxBatch: 3, maxDelayMs: 50 });
  const [runner] = runners as [ToldRunner];
  const early = ask(rows(1));
  await settled();
  vi.advanceTimersByTime(49);
  await settled();
  expect(runner.runs).toEqual([]);
  vi.advanceTimersByTime(1);
  await settled();
  expect(runner.seen).toEqual([[1, 1]]);
  runner.runs[0]!.end();
  expect(await early).toEqual([1]);
  const full = [2, 3, 4].map((value) => ask(rows(value)));
  await settled();
  expect(runner.seen.at(-1)).toEqual([2, 3]);
  runner.runs[1]!.end();
  expect(await Promise.all(full)).toEqual([[2], [3], [4]]);
});

it('a runner with a queue of its own is asked at once, but for a version or with a deadline', async () => {
  const runner: ToldRunner & { running?: number } = new ToldRunner();
  runner.capacity = 0;
  runner.running = 0;
  const params = Parameters.create({ w: { dims: [1] } });
  const kept = params.kept.add({ version: 7, madeAtMs: 0, position: null }, { w: Float32Array.of(1) });
  const pool = new Pool(model, [runner], params.reader(), { maxBatch: 1, maxDelayMs: 0, maxQueue: 2 });
  const answers = [
    pool.ask(rows(1), null, undefined),
    pool.ask(rows(2), kept.slot, undefined),
    pool.ask(rows(3), null, { deadlineMs: 60_000 }),
  ];
  expect([runner.seen, pool.queued]).toEqual([[[1, 1]], 2]);
  runner.running = 3;
  await expect(pool.ask(rows(4), null, undefined)).rejects.toMatchObject({ key: 'overloaded' });
  runner.capacity = 2;
  runner.onCapacity!();
  await settled();
  for (const { end } of runner.runs) end();
  const results = await Promise.all(answers);
  expect(results.map(({ outputs }) => outputs.y!.data[0])).toEqual([1, 2, 3]);
});

it('one too many is refused, and there is room again when one has gone', async () => {
  const { runners, ask } = pooled({ maxQueue: 2 });
  const [runner] = runners as [ToldRunner];
  const answers = [1, 2, 3].map((value) => ask(rows(value)));
  await settled();
  expect(await ask(rows(4))).toBe('overloaded');
  runner.runs[0]!.end();
  await settled();
  answers.push(ask(rows(5)));
  for (let run = 1; run < 4; run++) {
    runner.runs[run]!.end();
    await settled();
  }
  expect(await Promise.all(answers)).toEqual([[1], [2], [3], [5]]);
});

it('one that was given up, or whose time is over, is not run, and lets go of its version', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const { runners, ask, params } = pooled();
  const [runner] = runners as [ToldRunner];
  const kept = params.kept.add({ version: 7, madeAtMs: 0, position: null }, { w: Float32Array.of(1) });
  const running = ask(rows(1));
  const control = new AbortController();
  const aborted = ask(rows(2), { signal: control.signal }, kept.slot);
  const late = ask(rows(3), { deadlineMs: 20 }, kept.slot);
  const last = ask(rows(4), { deadlineMs: 30 }, kept.slot);
  await settled();
  expect(() => params.kept.forget(7)).toThrow();
  control.abort();
  expect(await aborted).toBe('predictionAborted');
  vi.advanceTimersByTime(20);
  expect(await late).toBe('deadlineExceeded');
  expect(() => params.kept.forget(7)).toThrow();
  runner.runs[0]!.end();
  await settled();
  runner.runs[1]!.end();
  expect(await running).toEqual([1]);
  expect(await last).toEqual([4]);
  await settled();
  expect(runner.runs).toHaveLength(2);
  params.kept.forget(7);
  expect(await ask(rows(5), { signal: control.signal })).toBe('predictionAborted');
});

it('a bad one fails alone, and an error about the runner fails all that ran there', async () => {
  const { runners, ask } = pooled({ maxBatch: 4 });
  const [runner] = runners as [ToldRunner];
  const answers = [1, 2].map((value) => ask(rows(value)));
  await settled();
  runner.runs[0]!.end(new Error('bad numbers'));
  await settled();
  runner.runs[1]!.end(new Error('bad numbers'));
  await settled();
  runner.runs[2]!.end();
  expect(await Promise.all(answers)).toEqual(['predictionFailed', [2]]);
  const others = [3, 4].map((value) => ask(rows(value)));
  await settled();
  runner.runs[3]!.end(new RxgradError('sessionClosed', { model: 'm' }));
  expect(await Promise.all(others)).toEqual(['sessionClosed', 'sessionClosed']);
  expect(runner.runs).toHaveLength(4);
});

it('where no runner can run any more, what waits fails, and what comes; where one can, it goes there', async () => {
  const { runners, ask } = pooled({}, 2);
  const [first, second] = runners as [ToldRunner, ToldRunner];
  first.capacity = 0;
  second.capacity = 0;
  const waiting = ask(rows(1));
  first.failure = new RxgradError('predictionFailed', { model: 'm', problem: 'gone' });
  first.onCapacity!();
  second.capacity = 1;
  second.onCapacity!();
  await settled();
  expect(second.seen).toEqual([[1, 1]]);
  second.runs[0]!.end();
  expect(await waiting).toEqual([1]);
  second.capacity = 0;
  const left = ask(rows(2));
  second.failure = first.failure;
  second.onCapacity!();
  expect(await left).toBe('predictionFailed');
  expect(await ask(rows(3))).toBe('predictionFailed');
});

it('the end waits for what runs, fails what waits, and closes the runners', async () => {
  const { pool, runners, ask, params } = pooled({ maxBatch: 2 });
  const [runner] = runners as [ToldRunner];
  const running = ask(rows(1));
  await settled();
  const waiting = ask(rows(2));
  let ended = false;
  const end = pool.close().then(() => {
    ended = true;
  });
  expect(await waiting).toBe('sessionClosed');
  expect(await ask(rows(3))).toBe('sessionClosed');
  await settled();
  expect([ended, runner.closed]).toEqual([false, false]);
  runner.runs[0]!.end();
  expect(await running).toEqual([1]);
  await end;
  expect(runner.closed).toBe(true);
  expect(params.leftRight.readers.any).toBe(false);
});

it('a warm-up runs on each of the runners as often as it is told', async () => {
  const { pool, runners } = pooled({}, 2);
  const warm = pool.warmUp(rows(9), 2);
  for (const runner of runners as ToldRunner[]) {
    for (let run = 0; run < 2; run++) {
      await eventually(() => expect(runner.runs).toHaveLength(run + 1));
      runner.runs[run]!.end();
    }
  }
  await warm;
  expect(runners.map(({ seen }) => seen.length)).toEqual([2, 2]);
});
