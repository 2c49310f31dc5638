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
import { afterEach, expect, it, vi } from 'vitest';
import { channels, type ProgressObserved } from '../../src/observe/channels.ts';

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
