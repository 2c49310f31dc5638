import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import {
  acknowledge,
  encodeEvent,
  epochBoundary,
  fromTransport,
  memoryTransport,
  nextFigures,
  noFigures,
  type TrainingEvent,
} from 'rxgrad';
import { afterEach, describe, expect, it, type TestContext, vi } from 'vitest';
import { channels, type ProgressObserved } from '../../src/observe/channels.ts';
import { InFlight } from '../../src/sources/in-flight.ts';
import { progress } from '../../src/sources/progress.ts';

afterEach(() => void vi.useRealTimers());

it('publishes how far a source has read, once a second while somebody listens', async (t) => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  const transport = memoryTransport();
  const asked = vi.spyOn(transport, 'endOffsets');
  await transport.createTopic('g', { partitions: 3 });
  const record = encodeEvent(epochBoundary(0));
  await transport.produce('g', [record, record, record, record, { ...record, partition: 1 }]);
  const events: TrainingEvent[] = [];
  const subscription = fromTransport(transport, { topic: 'g', partitions: 'any-order', maxInFlight: 3 }).subscribe((event) =>
    events.push(event),
  );
  t.onTestFinished(() => subscription.unsubscribe());
  const settle = async () => {
    for (let turn = 0; turn < 20; turn++) await eventLoopTurn();
  };
  await settle();
  await vi.advanceTimersByTimeAsync(3000);
  expect(asked).not.toHaveBeenCalled();

  const seen: ProgressObserved[] = [];
  const listen = (message: unknown) => void seen.push(message as ProgressObserved);
  channels.progress.subscribe(listen);
  t.onTestFinished(() => void channels.progress.unsubscribe(listen));
  await vi.advanceTimersByTimeAsync(1000);
  await settle();
  expect(seen[0]).toEqual({
    kind: 'progress',
    at: 'fromTransport',
    topic: 'g',
    partition: 0,
    position: 3,
    end: 4,
    lag: 1,
    inFlight: 3,
    inFlightBytes: 3 * record.value!.byteLength,
  });
  expect(seen.find(({ partition }) => partition === 2)).toMatchObject({ position: 0, end: 0, lag: 0 });
  for (const event of events) acknowledge(event);
  await settle();
  await vi.advanceTimersByTimeAsync(1000);
  await settle();
  const figures = seen.reduce(nextFigures, noFigures);
  expect([figures.lag, figures.lags]).toEqual([0, { 'g/0': 0, 'g/1': 0, 'g/2': 0 }]);

  subscription.unsubscribe();
  const { length } = seen;
  await vi.advanceTimersByTimeAsync(3000);
  expect(seen).toHaveLength(length);
});

describe('what a source publishes', () => {
  function published(t: TestContext, endOffsets: () => Promise<number[]>) {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    const seen: ProgressObserved[] = [];
    const listen = (message: unknown) => void seen.push(message as ProgressObserved);
    channels.progress.subscribe(listen);
    const inFlight = new InFlight(10, 1000, () => {});
    const reading = progress({ ...memoryTransport(), endOffsets }, 'g', inFlight);
    const unsubscribe = () => void channels.progress.unsubscribe(listen);
    t.onTestFinished(() => {
      unsubscribe();
      reading.stop();
    });
    return { seen, reading, inFlight, unsubscribe };
  }

  it('says of a partition that others read now that nothing is left of it, and then nothing more', async (t) => {
    const { seen, reading, inFlight, unsubscribe } = published(t, async () => [9, 9, 9]);
    inFlight.add({ topic: 'g', partition: 1, offset: 4 }, 7);
    for (const partition of [0, 1, 2]) reading.at(partition, 5);
    reading.leave([1, 7]);
    const left = { kind: 'progress', at: 'fromTransport', topic: 'g', partition: 1, position: 5, end: 5, lag: 0 };
    expect(seen).toEqual([{ ...left, inFlight: 1, inFlightBytes: 7 }]);
    await vi.advanceTimersByTimeAsync(1000);
    expect(seen.slice(1).map(({ partition, lag }) => [partition, lag])).toEqual([
      [0, 4],
      [2, 4],
    ]);
    unsubscribe();
    reading.leave([0]);
    expect(seen).toHaveLength(3);
  });

  it('is nothing before anything was read, and an end no farther back than what was', async (t) => {
    const asked = vi.fn(async () => [3]);
    const { seen, reading } = published(t, asked);
    await vi.advanceTimersByTimeAsync(3000);
    expect(asked).not.toHaveBeenCalled();
    reading.at(0, 5);
    reading.at(1, 2);
    await vi.advanceTimersByTimeAsync(1000);
    expect(seen.map(({ position, end, lag }) => [position, end, lag])).toEqual([
      [5, 5, 0],
      [2, 2, 0],
    ]);
  });

  it('is asked for once at a time, and again where that failed', async (t) => {
    let answer = Promise.withResolvers<number[]>();
    const asked = vi.fn(() => answer.promise);
    const { seen, reading } = published(t, asked);
    reading.at(0, 5);
    await vi.advanceTimersByTimeAsync(3000);
    expect(asked).toHaveBeenCalledOnce();
    answer.reject(new Error('out of reach'));
    await eventLoopTurn();
    answer = Promise.withResolvers();
    await vi.advanceTimersByTimeAsync(1000);
    expect(asked).toHaveBeenCalledTimes(2);
    answer.resolve([6]);
    await eventLoopTurn();
    expect(seen).toMatchObject([{ lag: 1 }]);
  });
});

it('adds the lags of all partitions up', () => {
  const observed = {
    kind: 'progress',
    at: 'fromTransport',
    topic: 'g',
    position: 1,
    end: 9,
    inFlight: 0,
    inFlightBytes: 0,
  } as const;
  const all = [
    [0, 5],
    [1, 3],
    [0, 2],
  ] as const;
  const figures = all.map(([partition, lag]) => ({ ...observed, partition, lag })).reduce(nextFigures, noFigures);
  expect(figures.lag).toBe(5);
});
