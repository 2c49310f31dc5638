import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { consumeLog, type ReadableLog } from '../../src/sources/log-consumption.ts';
import type { ConsumeOptions, LogRecord } from '../../src/sources/transport.ts';
import { eventually } from '../eventually.ts';

const record = (offset: number): LogRecord => ({ offset, key: null, value: null, headers: {}, timestampMs: 0 });
const turns = async () => {
  for (let i = 0; i < 10; i++) await new Promise(setImmediate);
};

/** A log of two partitions in an array each, which counts what it is asked. */
function logOf(...ends: [number, number]) {
  const listeners = new Set<() => void>();
  const acknowledged: [string, string, [number, number][]][] = [];
  const log = {
    bounds: () => ends.map((end) => ({ first: 0, end })),
    read: vi.fn((_: string, partition: number, offset: number) =>
      offset < ends[partition]! ? [record(offset), record(offset + 1)].filter((one) => one.offset < ends[partition]!) : [],
    ),
    acknowledged: () => new Map([[0, 1]]),
    acknowledge: vi.fn<ReadableLog['acknowledge']>((group, topic, next) => void acknowledged.push([group, topic, [...next]])),
    onAppend(callback: () => void) {
      listeners.add(callback);
      return () => listeners.delete(callback);
    },
  };
  return {
    log,
    acknowledged,
    listeners,
    append(partition: number, count = 1) {
      ends[partition]! += count;
      for (const listener of listeners) listener();
    },
  };
}

function consuming(log: ReadableLog, own: Partial<ConsumeOptions> = {}) {
  const delivered: string[] = [];
  const errors: Error[] = [];
  const consumption = consumeLog(log, {
    topic: 'g',
    deliver: (_, partition, records) => void delivered.push(...records.map(({ offset }) => `${partition}@${offset}`)),
    onError: (error) => errors.push(error),
    ...own,
  });
  onTestFinished(() => consumption.stop().catch(() => {}));
  return { consumption, delivered, errors };
}

describe('a log that is consumed', () => {
  it('is read from where its group has got to, and on when records come', async () => {
    const { log, append } = logOf(3, 1);
    const { delivered } = consuming(log, { group: 'a' });
    expect(delivered).toEqual([]);
    await turns();
    expect(delivered.toSorted()).toEqual(['0@1', '0@2', '1@0']);
    append(1);
    await turns();
    expect(delivered.at(-1)).toBe('1@1');
    const alone = consuming(log);
    await turns();
    expect(alone.delivered).toContain('0@0');
  });

  it('is not read while nothing comes', async () => {
    const { log, append } = logOf(1, 0);
    consuming(log);
    await turns();
    const { length } = log.read.mock.calls;
    await turns();
    expect(log.read.mock.calls).toHaveLength(length);
    append(0);
    await turns();
    expect(log.read.mock.calls.length).toBeGreaterThan(length);
  });

  it('tells where it was read to its end, once for each end', async () => {
    const { log, append, listeners } = logOf(2, 0);
    const reached: string[] = [];
    const { consumption } = consuming(log, { onReached: (partition, next) => void reached.push(`${partition} ${next}`) });
    await turns();
    for (const listener of listeners) listener();
    await turns();
    expect(reached.toSorted()).toEqual(['0 2', '1 0']);
    append(0);
    await turns();
    expect(reached.slice(2)).toEqual(['0 3']);
    await consumption.seek(0, 3);
    await turns();
    expect(reached.slice(3)).toEqual(['0 3']);
  });

  it('leaves the event loop to others between deliveries', async () => {
    const { log } = logOf(1000, 0);
    let between = 0;
    const counting = setInterval(() => {}, 1e6);
    onTestFinished(() => clearInterval(counting));
    const { delivered } = consuming(log);
    const count = () => {
      between += 1;
      if (delivered.length < 1000) setImmediate(count);
    };
    setImmediate(count);
    await eventually(() => expect(delivered).toHaveLength(1000));
    expect(between).toBeGreaterThan(400);
  });

  it('tells its consumer of nothing before that has the consumption', async () => {
    const { log } = logOf(1, 1);
    const assigned = vi.fn(() => new Map<number, number>());
    consuming(log, { onAssigned: assigned });
    expect(assigned).not.toHaveBeenCalled();
    await turns();
    expect(assigned).toHaveBeenCalledExactlyOnceWith([0, 1]);
  });

  it('asks nobody where to begin who has stopped by then', async () => {
    const { log } = logOf(1, 1);
    const assigned = vi.fn(() => new Map<number, number>());
    const { consumption, delivered } = consuming(log, { onAssigned: assigned });
    await consumption.stop();
    expect([assigned.mock.calls, delivered]).toEqual([[], []]);
  });

  it('ends with what is no error, as one, and once', async () => {
    const { log, listeners } = logOf(1, 1);
    const { errors } = consuming(log, { deliver: () => Promise.reject('no room') });
    await turns();
    expect(errors).toEqual([new Error('no room')]);
    expect(listeners.size).toBe(0);
  });

  it('that has ended listens to no appends, and fails nobody', async () => {
    const { log, listeners } = logOf(0, 0);
    const { consumption, errors } = consuming(log);
    await turns();
    expect(listeners.size).toBe(1);
    await consumption.stop();
    expect(listeners.size).toBe(0);
    const gate = Promise.withResolvers<void>();
    const other = consuming(logOf(1, 0).log, { deliver: () => gate.promise });
    await turns();
    const stopped = other.consumption.stop();
    gate.reject(new Error('too late'));
    await stopped;
    expect([errors, other.errors]).toEqual([[], []]);
  });
});

describe('acknowledgements', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    return () => vi.useRealTimers();
  });

  it('are written once a second, the last of each partition, where there are any', async () => {
    const { log, acknowledged } = logOf(5, 5);
    const { consumption } = consuming(log, { group: 'a' });
    await vi.advanceTimersByTimeAsync(5_000);
    expect(acknowledged).toEqual([]);
    for (const [partition, offset] of [
      [0, 1],
      [1, 2],
      [0, 3],
    ] as const) {
      consumption.acknowledge({ topic: 'g', partition, offset });
    }
    await vi.advanceTimersByTimeAsync(999);
    expect(acknowledged).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    const written = [
      [0, 4],
      [1, 3],
    ];
    expect(acknowledged).toEqual([['a', 'g', written]]);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(acknowledged).toHaveLength(1);
  });

  it('are written in the end, and no more after it', async () => {
    const { log, acknowledged } = logOf(5, 5);
    const { consumption } = consuming(log, { group: 'a' });
    consumption.acknowledge({ topic: 'g', partition: 0, offset: 1 });
    const stopping = consumption.stop();
    expect(consumption.stop()).toBe(stopping);
    await stopping;
    expect(acknowledged).toEqual([['a', 'g', [[0, 2]]]]);
    consumption.acknowledge({ topic: 'g', partition: 0, offset: 2 });
    await vi.advanceTimersByTimeAsync(5_000);
    expect(acknowledged).toHaveLength(1);
  });

  it('of no group are not written', async () => {
    const { log } = logOf(5, 5);
    const { consumption } = consuming(log);
    consumption.acknowledge({ topic: 'g', partition: 0, offset: 1 });
    await vi.advanceTimersByTimeAsync(5_000);
    await consumption.stop();
    expect(log.acknowledge).not.toHaveBeenCalled();
  });

  it('are written one after the other', async () => {
    const { log } = logOf(5, 5);
    const first = Promise.withResolvers<void>();
    log.acknowledge.mockReturnValueOnce(first.promise);
    const { consumption } = consuming(log, { group: 'a' });
    consumption.acknowledge({ topic: 'g', partition: 0, offset: 1 });
    await vi.advanceTimersByTimeAsync(1_000);
    consumption.acknowledge({ topic: 'g', partition: 0, offset: 2 });
    await vi.advanceTimersByTimeAsync(3_000);
    expect(log.acknowledge).toHaveBeenCalledOnce();
    first.resolve();
    await turns();
    expect(log.acknowledge).toHaveBeenCalledTimes(2);
  });

  it('that cannot be written end the consumption', async () => {
    const { log } = logOf(5, 5);
    log.acknowledge.mockRejectedValueOnce(new Error('the disk is full'));
    const { consumption, errors } = consuming(log, { group: 'a' });
    consumption.acknowledge({ topic: 'g', partition: 0, offset: 1 });
    await vi.advanceTimersByTimeAsync(1_000);
    expect(errors).toEqual([new Error('the disk is full')]);
  });
});

describe('a log with a gap', () => {
  const gapped = () => {
    const { log } = logOf(6, 0);
    log.read.mockImplementation((_, partition, offset) =>
      partition === 0 ? [0, 1, 4, 5].filter((one) => one >= offset).map(record) : [],
    );
    return log;
  };

  it('is an error after what comes before it, where it has to be whole', async () => {
    const { delivered, errors } = consuming(gapped(), { whole: true });
    await eventually(() => expect(errors).toHaveLength(1));
    expect(errors[0]).toMatchObject({ key: 'offsetGap', details: { where: 'g/0', expected: 2, got: 4 } });
    expect(delivered).toEqual(['0@0', '0@1']);
  });

  it('is passed over otherwise, and does not matter before where it is read from', async () => {
    const { delivered, errors } = consuming(gapped());
    await eventually(() => expect(delivered).toEqual(['0@0', '0@1', '0@4', '0@5']));
    const behind = consuming(gapped(), { whole: true, from: new Map([[0, 4]]) });
    await eventually(() => expect(behind.delivered).toEqual(['0@4', '0@5']));
    expect([...errors, ...behind.errors]).toEqual([]);
  });
});
