import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import {
  acknowledge,
  encodeEvent,
  epochBoundary,
  type FromTransportOptions,
  fromTransport,
  GradientBatch,
  gradientBatch,
  memoryTransport,
  metricReport,
  momentum,
  type NewRecord,
  Parameters,
  type Rejection,
  type TrainingEvent,
  type Transport,
} from 'rxgrad';
import { lastValueFrom, type Observable, take, tap, toArray } from 'rxjs';
import { describe, expect, it, type TestContext, vi } from 'vitest';

const batch = (sequence: number, size = 4) =>
  encodeEvent(gradientBatch({ gradients: { w: new Float32Array(size).fill(1) }, worker: 'w', sequence }));
const batches = (count: number, size?: number) => Array.from({ length: count }, (_, i) => batch(i, size));
const bytesOf = (record: NewRecord) => record.value!.byteLength;
const sequenceOf = (event: TrainingEvent) => (event instanceof GradientBatch ? event.facts.sequence : event.kind);

async function log(records: readonly NewRecord[], partitions = 1): Promise<Transport> {
  const transport = memoryTransport();
  await transport.createTopic('g', { partitions });
  await transport.produce('g', records);
  return transport;
}

/** Collects events; `settled` waits until nothing more comes of itself. */
function collect(t: TestContext, events$: Observable<TrainingEvent>) {
  const events: TrainingEvent[] = [];
  const subscription = events$.subscribe((event) => events.push(event));
  t.onTestFinished(() => subscription.unsubscribe());
  async function settled(): Promise<(number | string | undefined)[]> {
    for (let before = -1; before !== events.length; ) {
      before = events.length;
      for (let turn = 0; turn < 10; turn++) await eventLoopTurn();
    }
    return events.map(sequenceOf);
  }
  return { events, settled, subscription };
}

describe('what is handed out and not acknowledged', () => {
  it('is never more than maxInFlight events', async (t) => {
    const { events, settled } = collect(t, fromTransport(await log(batches(7)), { topic: 'g', maxInFlight: 3 }));
    expect(await settled()).toEqual([0, 1, 2]);
    acknowledge(events[0]!);
    expect(await settled()).toEqual([0, 1, 2, 3]);
    acknowledge(events[3]!);
    expect(await settled()).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  it('is never more than maxBytes', async (t) => {
    const records = batches(5);
    const options = { topic: 'g', maxBytes: 2 * bytesOf(records[0]!) + 1 };
    const { events, settled } = collect(t, fromTransport(await log(records), options));
    expect(await settled()).toEqual([0, 1]);
    acknowledge(events[1]!);
    expect(await settled()).toEqual([0, 1, 2, 3]);
  });

  it('is one event alone where that is larger than maxBytes', async (t) => {
    const records = [batch(0), batch(1, 1000), batch(2)];
    const options = { topic: 'g', maxBytes: 2 * bytesOf(records[0]!) };
    const { events, settled } = collect(t, fromTransport(await log(records), options));
    expect(await settled()).toEqual([0]);
    acknowledge(events[0]!);
    expect(await settled()).toEqual([0, 1]);
    acknowledge(events[1]!);
    expect(await settled()).toEqual([0, 1, 2]);
  });

  it('is counted over all partitions', async (t) => {
    const records = batches(6).map((record, i) => ({ ...record, partition: i % 2 }));
    const { events, settled } = collect(
      t,
      fromTransport(await log(records, 2), { topic: 'g', partitions: 'any-order', maxInFlight: 4 }),
    );
    expect(await settled()).toHaveLength(4);
    for (const event of [...events]) acknowledge(event);
    expect((await settled()).toSorted()).toEqual([0, 1, 2, 3, 4, 5]);
  });
});

describe('a pipe over a log', () => {
  const end = { topic: 'g', until: 'end' } as const;

  it('runs to the end of the log with one event in flight, since the scan acknowledges', async () => {
    const records = [
      batch(0),
      encodeEvent(epochBoundary(0)),
      encodeEvent(metricReport({ name: 'a', value: 1 })),
      batch(1),
      batch(1),
    ];
    const params = Parameters.create({ w: { dims: [4] } });
    const rejections: Rejection[] = [];
    const scan = momentum(params, { lr: 0.1, rejections: { next: (rejection) => rejections.push(rejection) } });
    const updates$ = fromTransport(await log(records), { ...end, maxInFlight: 1 }).pipe(scan, toArray());
    expect(await lastValueFrom(updates$)).toMatchObject([
      { version: 1, position: { offset: 0 } },
      { version: 2, epoch: 1, position: { topic: 'g', partition: 0, offset: 3 } },
    ]);
    expect(rejections).toMatchObject([{ reason: 'duplicate', position: { offset: 4 } }]);
  });

  it('gets what cannot be decoded as a rejection in its place', async () => {
    const records = [batch(0), { value: Buffer.from('?'), headers: batch(1).headers! }, { value: null }, batch(3)];
    const events = await lastValueFrom(fromTransport(await log(records), end).pipe(toArray()));
    expect(events.map(sequenceOf)).toEqual([0, 'rejection', 'rejection', 3]);
    expect(events[1]).toMatchObject({ reason: 'undecodable', worker: 'w', sequence: 1, position: { offset: 1 } });
  });

  it('sees only events that `where` lets through; the others take no room', async () => {
    const where = (event: TrainingEvent) => event instanceof GradientBatch && event.facts.sequence! >= 98;
    const options: FromTransportOptions = { ...end, maxInFlight: 1, where };
    const events$ = fromTransport(await log(batches(100)), options).pipe(tap(acknowledge), toArray());
    expect((await lastValueFrom(events$)).map(sequenceOf)).toEqual([98, 99]);
  });

  it.each([
    ['beginning', 'beginning', [0, 1, 2]],
    ['an offset', new Map([[0, 2]]), [2]],
    ['the end', 'end', []],
    ['an offset behind the end', new Map([[0, 3]]), []],
  ] as const)('begins at %s', async (_, from, expected) => {
    const events$ = fromTransport(await log(batches(3)), { ...end, from }).pipe(toArray());
    expect((await lastValueFrom(events$)).map(sequenceOf)).toEqual(expected);
  });

  it('completes at once where the topic is empty', async () => {
    expect(await lastValueFrom(fromTransport(await log([], 3), { ...end, partitions: 'any-order' }).pipe(toArray()))).toEqual([]);
  });

  it('ends with the record that was the last when it began, whatever came since', async () => {
    const transport = await log([batch(0), { ...batch(1), partition: 1 }, batch(2)], 2);
    const endOffsets = transport.endOffsets.bind(transport);
    vi.spyOn(transport, 'endOffsets').mockImplementation(async (topic) => {
      const ends = await endOffsets(topic);
      await transport.produce('g', [batch(3), { ...batch(4), partition: 1 }]);
      return ends;
    });
    const events = await lastValueFrom(fromTransport(transport, { ...end, partitions: 'any-order' }).pipe(toArray()));
    expect(events.map(sequenceOf).toSorted()).toEqual([0, 1, 2]);
  });
});

describe('the consumption', () => {
  it('begins with a subscription and ends with it', async (t) => {
    const transport = await log(batches(3));
    const stopped: string[] = [];
    const consume = transport.consume.bind(transport);
    const consumed = vi.spyOn(transport, 'consume').mockImplementation(async (options) => {
      const consumption = await consume(options);
      return { ...consumption, stop: () => consumption.stop().then(() => void stopped.push('stopped')) };
    });
    const events$ = fromTransport(transport, { topic: 'g', maxInFlight: 2 });
    expect(consumed).not.toHaveBeenCalled();
    const { settled, subscription } = collect(t, events$);
    await settled();
    subscription.unsubscribe();
    await transport.produce('g', batches(3));
    expect(await settled()).toEqual([0, 1]);
    expect(stopped).toEqual(['stopped']);
  });

  it('ends, too, where its subscriber left while it was beginning', async (t) => {
    const transport = await log(batches(3));
    const consume = transport.consume.bind(transport);
    const begin = Promise.withResolvers<void>();
    const stop = vi.fn(async () => {});
    vi.spyOn(transport, 'consume').mockImplementation(async (options) => {
      await begin.promise;
      return { ...(await consume(options)), stop };
    });
    const { settled, subscription } = collect(t, fromTransport(transport, { topic: 'g' }));
    await settled();
    subscription.unsubscribe();
    expect(stop).not.toHaveBeenCalled();
    begin.resolve();
    expect(await settled()).toEqual([]);
    expect(stop).toHaveBeenCalledOnce();
  });

  it('does not begin where its subscriber left before it could', async (t) => {
    const transport = await log(batches(3));
    const consumed = vi.spyOn(transport, 'consume');
    const { settled, subscription } = collect(t, fromTransport(transport, { topic: 'g', until: 'end' }));
    subscription.unsubscribe();
    expect(await settled()).toEqual([]);
    expect(consumed).not.toHaveBeenCalled();
  });

  it('ends when the pipe has enough', async () => {
    const events$ = fromTransport(await log(batches(9)), { topic: 'g' }).pipe(take(2), toArray());
    expect((await lastValueFrom(events$)).map(sequenceOf)).toEqual([0, 1]);
  });

  it('tells its group what was acknowledged', async (t) => {
    const transport = await log(batches(4));
    const options = { topic: 'g', group: 'trainers', maxInFlight: 2 };
    const first = collect(t, fromTransport(transport, options));
    await first.settled();
    acknowledge(first.events[1]!);
    await first.settled();
    first.subscription.unsubscribe();
    await first.settled();
    expect(await collect(t, fromTransport(transport, options)).settled()).toEqual([2, 3]);
  });
});

describe('a topic that is read', () => {
  /** A source whose clock the test moves, and what it asks the transport. */
  async function watched(t: TestContext, options: Partial<FromTransportOptions> = {}) {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    t.onTestFinished(() => void vi.useRealTimers());
    const transport = await log(batches(2));
    const described = vi.spyOn(transport, 'describeTopic');
    const watch = vi.fn(async () => {});
    const { settled, subscription } = collect(t, fromTransport(transport, { topic: 'g', watch, ...options }));
    await settled();
    described.mockClear();
    return { described, watch, subscription, settled };
  }

  it('is looked at every five seconds, and its checkpoints every minute, until the subscriber leaves', async (t) => {
    const { described, watch, subscription } = await watched(t);
    await vi.advanceTimersByTimeAsync(60_000);
    expect([described.mock.calls.length, watch.mock.calls.length]).toEqual([12, 1]);
    subscription.unsubscribe();
    await vi.advanceTimersByTimeAsync(600_000);
    expect([described.mock.calls.length, watch.mock.calls.length]).toEqual([12, 1]);
  });

  it('is not looked at where it is read to an end', async (t) => {
    const { described, watch, settled } = await watched(t, { until: { offsets: new Map([[0, 9]]) } });
    await vi.advanceTimersByTimeAsync(600_000);
    expect(await settled()).toEqual([0, 1]);
    expect([described.mock.calls.length, watch.mock.calls.length]).toEqual([0, 0]);
  });

  it('has a partition of its own where several are there: nothing of the others is handed out', async (t) => {
    const transport = await log(
      batches(6).map((record, i) => ({ ...record, partition: i % 2 })),
      2,
    );
    const consume = transport.consume.bind(transport);
    const told: (ReadonlyMap<number, number> | string | undefined)[] = [];
    vi.spyOn(transport, 'consume').mockImplementation((options) => {
      told.push(options.from);
      return consume({ ...options, from: 'beginning' });
    });
    const { settled } = collect(t, fromTransport(transport, { topic: 'g', partitions: [1] }));
    expect(await settled()).toEqual([1, 3, 5]);
    expect(told).toEqual([
      new Map([
        [0, 3],
        [1, 0],
      ]),
    ]);
    const until = { offsets: new Map([[1, 2]]) };
    expect((await lastValueFrom(fromTransport(transport, { topic: 'g', until }).pipe(toArray()))).map(sequenceOf)).toEqual([
      1, 3,
    ]);
  });
});

describe('an error', () => {
  it('of the transport fails the stream', async () => {
    const transport = await log([]);
    vi.spyOn(transport, 'consume').mockImplementation(async ({ onError }) => {
      onError(new Error('lost for good'));
      return { acknowledge: () => {}, seek: async () => {}, stop: async () => {} };
    });
    await expect(lastValueFrom(fromTransport(transport, { topic: 'g' }))).rejects.toThrow('lost for good');
  });

  it('of an unknown topic fails the stream', async () => {
    const events$ = fromTransport(memoryTransport(), { topic: 'nowhere' });
    await expect(lastValueFrom(events$)).rejects.toMatchObject({ code: 'RXGRAD_UNKNOWN_TOPIC' });
  });

  it('in `where` fails the stream', async () => {
    const where = () => {
      throw new Error('where?');
    };
    await expect(lastValueFrom(fromTransport(await log(batches(1)), { topic: 'g', where }))).rejects.toThrow('where?');
  });

  it.each<[object, string]>([
    [{}, 'fromTransport: topic: expected a value, got undefined'],
    [{ topic: '' }, 'fromTransport: topic: expected a name'],
    [{ topic: 'g', maxInFlight: 0 }, 'maxInFlight: expected >=1, got 0'],
    [{ topic: 'g', maxBytes: 1.5 }, 'maxBytes: expected a whole number, got 1.5'],
    [{ topic: 'g', until: 'end', group: 'a' }, 'expected `until` without `group`'],
    [{ topic: 'g', fromBeginning: true }, 'fromBeginning: expected no such option'],
  ])('in the options %o shows at once', (options, message) => {
    expect(() => fromTransport(memoryTransport(), options as FromTransportOptions)).toThrow(message);
  });
});
