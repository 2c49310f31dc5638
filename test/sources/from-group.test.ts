import {
  acknowledge,
  encodeEvent,
  GradientBatch,
  gradientBatch,
  type LogRecord,
  memoryTransport,
  type TrainingEvent,
} from 'rxgrad';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { RxgradError } from '../../src/errors.ts';
import { type AssignedPartition, type FromGroupOptions, fromGroup } from '../../src/sources/from-group.ts';
import type { ConsumeOptions, Consumption, Position, Transport } from '../../src/sources/transport.ts';
import { eventually } from '../eventually.ts';

const turns = async () => {
  for (let i = 0; i < 10; i++) await new Promise(setImmediate);
};

function record(offset: number): LogRecord {
  const { value, headers = {} } = encodeEvent(
    gradientBatch({ gradients: { w: Float32Array.of(1) }, worker: 'w', sequence: offset }),
  );
  return { offset, key: null, value, headers, timestampMs: 0 };
}

const bytes = record(0).value!.byteLength;

/** A transport whose group hands out partitions when the test says so. */
function setUp(own: Partial<FromGroupOptions<string>> = {}, begin: Promise<void> = Promise.resolve()) {
  const memory = memoryTransport();
  let options: ConsumeOptions | null = null;
  const acknowledged: Position[] = [];
  const consumption: Consumption = {
    acknowledge: (position) => void acknowledged.push(position),
    seek: async () => {},
    stop: vi.fn(async () => {}),
  };
  const transport: Transport = {
    ...memory,
    consume: vi.fn(async (given) => {
      options = given;
      await begin;
      return consumption;
    }),
  };
  const partitions: (AssignedPartition<string> & { readonly events: TrainingEvent[]; completed: boolean })[] = [];
  const errors: unknown[] = [];
  const created = memory.createTopic('g', { partitions: 3 });
  const subscription = fromGroup(transport, {
    topic: 'g',
    group: 'trainers',
    prepare: async (partition) => ({ start: { next: 10 * partition }, prepared: `prepared ${partition}` }),
    ...own,
  }).subscribe({
    next(assigned) {
      const one = { ...assigned, events: [] as TrainingEvent[], completed: false };
      partitions.push(one);
      assigned.events$.subscribe({
        next: (event) => one.events.push(event),
        complete: () => {
          one.completed = true;
        },
      });
    },
    error: (error) => errors.push(error),
  });
  onTestFinished(() => subscription.unsubscribe());
  const offsets = (at: number) => partitions[at]!.events.map((event) => event.delivery!.position.offset);
  const consumed = async (): Promise<ConsumeOptions> => {
    await created;
    await eventually(() => expect(options).not.toBeNull());
    return options!;
  };
  return { transport, memory, partitions, errors, subscription, offsets, consumed, consumption, acknowledged };
}

describe('the partitions of a group', () => {
  it('are handed out when they are prepared, each from where it begins', async () => {
    const ready = Promise.withResolvers<void>();
    const { consumed, partitions, memory } = setUp({
      prepare: async (partition) => {
        if (partition === 2) await ready.promise;
        return { start: { next: partition + 5 }, prepared: `p${partition}` };
      },
    });
    const { onAssigned, topic, group, topicId } = await consumed();
    expect({ topic, group, topicId }).toEqual({ topic: 'g', group: 'trainers', topicId: (await memory.describeTopic!('g')).id });
    const starts = onAssigned!([0, 2]);
    await turns();
    expect(partitions).toEqual([]);
    ready.resolve();
    expect([...(await starts)!]).toEqual([
      [0, 5],
      [2, 7],
    ]);
    expect(partitions.map(({ partition, prepared }) => [partition, prepared])).toEqual([
      [0, 'p0'],
      [2, 'p2'],
    ]);
  });

  it('have events of their own, which are acknowledged', async () => {
    const { consumed, partitions, offsets, acknowledged } = setUp();
    const { onAssigned, deliver } = await consumed();
    await onAssigned!([0, 1]);
    deliver('g', 0, [record(0), record(1)]);
    deliver('g', 1, [record(10)]);
    deliver('g', 2, [record(20)]);
    expect([offsets(0), offsets(1)]).toEqual([[0, 1], [10]]);
    const [event] = partitions[1]!.events;
    expect(event).toBeInstanceOf(GradientBatch);
    acknowledge(event!);
    acknowledge(partitions[0]!.events[1]!);
    expect(acknowledged).toEqual([
      { topic: 'g', partition: 1, offset: 10 },
      { topic: 'g', partition: 0, offset: 1 },
    ]);
  });

  it('know what was counted before', async () => {
    const seen = { epoch: 3, partitions: [], arrays: {} };
    const { consumed, partitions } = setUp({ prepare: async () => ({ start: { next: 0, seen }, prepared: '' }) });
    const { onAssigned, deliver } = await consumed();
    await onAssigned!([0]);
    deliver('g', 0, [record(0)]);
    expect(partitions[0]!.events[0]!.delivery).toMatchObject({ source: { seen } });
  });

  it.each([[{ maxInFlight: 2 }], [{ maxBytes: 2 * bytes }]])('have %o in flight at most, each', async (limits) => {
    const { consumed, partitions, offsets } = setUp(limits);
    const { onAssigned, deliver } = await consumed();
    await onAssigned!([0, 1]);
    const first = deliver('g', 0, [0, 1, 2].map(record));
    await deliver('g', 1, [0, 1].map(record));
    expect([offsets(0), offsets(1)]).toEqual([
      [0, 1],
      [0, 1],
    ]);
    acknowledge(partitions[0]!.events[0]!);
    await first;
    expect(offsets(0)).toEqual([0, 1, 2]);
  });

  it('end where they move to another member, which waits until what they led to is done', async () => {
    const { consumed, partitions, offsets, acknowledged } = setUp();
    const { onAssigned, onRevoked, deliver } = await consumed();
    await onAssigned!([0, 1]);
    deliver('g', 0, [record(0)]);
    let left = false;
    const leaving = Promise.resolve(onRevoked!([0, 2])).then(() => {
      left = true;
    });
    await turns();
    expect(partitions.map(({ completed }) => completed)).toEqual([true, false]);
    expect(left).toBe(false);
    partitions[0]!.finished();
    await leaving;
    // What still comes of it is nobody's here.
    deliver('g', 0, [record(1)]);
    acknowledge(partitions[0]!.events[0]!);
    expect([offsets(0), acknowledged]).toEqual([[0], []]);
    deliver('g', 1, [record(10)]);
    expect(offsets(1)).toEqual([10]);
  });

  it('are waited for no longer than ten seconds', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const { consumed } = setUp();
    const { onAssigned, onRevoked } = await consumed();
    await onAssigned!([0]);
    let left = false;
    void Promise.resolve(onRevoked!([0])).then(() => {
      left = true;
    });
    await vi.advanceTimersByTimeAsync(9_999);
    expect(left).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    expect(left).toBe(true);
    // Nor again, where it is not this member's any more.
    await onRevoked!([0]);
  });

  it('hand out nothing any more of what waits for room when they move', async () => {
    const { consumed, offsets, partitions } = setUp({ maxInFlight: 1 });
    const { onAssigned, onRevoked, deliver } = await consumed();
    await onAssigned!([0]);
    const delivering = deliver('g', 0, [0, 1].map(record));
    partitions[0]!.finished();
    await onRevoked!([0]);
    await delivering;
    expect(offsets(0)).toEqual([0]);
  });
});

describe('a partition that is given back', () => {
  const fenced = new RxgradError('fenced', { where: 'store', problem: 'another one writes' });
  const quiet = () => {
    const warnings = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    onTestFinished(() => void warnings.mockRestore());
    return warnings;
  };

  it('has the member end all that it has, leave the group, and then join it again', async () => {
    const warnings = quiet();
    const { consumed, transport, partitions, consumption, errors } = setUp();
    const { onAssigned, onStop, onError } = await consumed();
    await onAssigned!([0, 1]);
    partitions[0]!.giveBack(fenced);
    expect(partitions.map(({ completed }) => completed)).toEqual([true, true]);
    await turns();
    // Others get the second one when what its events led to is kept.
    expect(consumption.stop).not.toHaveBeenCalled();
    for (const { finished } of partitions) finished();
    await eventually(() => expect(transport.consume).toHaveBeenCalledTimes(2));
    expect(consumption.stop).toHaveBeenCalledOnce();
    // What the consumption that was stopped says is no failure.
    onStop!();
    onError(new Error('of the membership before'));
    const again = await consumed();
    expect([...(await again.onAssigned!([0]))!]).toEqual([[0, 0]]);
    expect(partitions).toHaveLength(3);
    expect(errors).toEqual([]);
    expect(warnings.mock.calls).toEqual([
      [expect.stringContaining('g/0 is given back: store: another one writes. '), { code: 'RXGRAD_PARTITION_FENCED' }],
    ]);
  });

  it('is left alone where it has moved to another member, or is given back already', async () => {
    quiet();
    const { consumed, transport, partitions, consumption } = setUp();
    const { onAssigned, onRevoked } = await consumed();
    await onAssigned!([0, 1]);
    for (const { finished } of partitions) finished();
    await onRevoked!([0]);
    partitions[0]!.giveBack(fenced);
    await turns();
    expect(consumption.stop).not.toHaveBeenCalled();
    partitions[1]!.giveBack(fenced);
    partitions[1]!.giveBack(fenced);
    await eventually(() => expect(transport.consume).toHaveBeenCalledTimes(2));
    expect(consumption.stop).toHaveBeenCalledOnce();
  });

  it('is any whose preparation is fenced, and what was prepared beside it is given up', async () => {
    quiet();
    const discarded: string[] = [];
    const { consumed, transport, partitions, errors } = setUp({
      prepare: async (partition) => {
        if (partition === 1) throw fenced;
        return { start: { next: 0 }, prepared: `p${partition}` };
      },
      discard: (prepared) => discarded.push(prepared),
    });
    expect([...(await (await consumed()).onAssigned!([0, 1, 2]))!]).toEqual([]);
    await eventually(() => expect(transport.consume).toHaveBeenCalledTimes(2));
    expect([discarded, partitions, errors]).toEqual([['p0', 'p2'], [], []]);
  });

  it('counts as given back for the first time where it was held for a minute', async () => {
    vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    quiet();
    const { consumed, transport, partitions, errors } = setUp();
    for (let time = 0; time < 20; time++) {
      await turns();
      expect(transport.consume).toHaveBeenCalledTimes(time + 1);
      await (await consumed()).onAssigned!([0]);
      vi.advanceTimersByTime(60_000);
      partitions.at(-1)!.finished();
      partitions.at(-1)!.giveBack(fenced);
      await turns();
      await vi.advanceTimersByTimeAsync(0);
    }
    expect(errors).toEqual([]);
  });

  it('has a member that leaves meanwhile join no more', async () => {
    quiet();
    const { consumed, transport, partitions, subscription } = setUp();
    await (await consumed()).onAssigned!([0]);
    partitions[0]!.finished();
    partitions[0]!.giveBack(fenced);
    subscription.unsubscribe();
    for (let i = 0; i < 10; i++) await turns();
    expect(transport.consume).toHaveBeenCalledOnce();
  });
});

describe('a member of a group that leaves', () => {
  it('stops its consumption, and hands out nothing more', async () => {
    const { consumed, subscription, consumption, offsets, acknowledged, partitions } = setUp({ maxInFlight: 1 });
    const { onAssigned, deliver } = await consumed();
    await onAssigned!([0]);
    await turns();
    const waiting = deliver('g', 0, [0, 1].map(record));
    subscription.unsubscribe();
    await waiting;
    expect(consumption.stop).toHaveBeenCalledOnce();
    acknowledge(partitions[0]!.events[0]!);
    expect([offsets(0), acknowledged]).toEqual([[0], []]);
  });

  it('stops it, too, where it left while that was beginning', async () => {
    const begin = Promise.withResolvers<void>();
    const { consumed, subscription, consumption } = setUp({}, begin.promise);
    await consumed();
    subscription.unsubscribe();
    await turns();
    expect(consumption.stop).not.toHaveBeenCalled();
    begin.resolve();
    await turns();
    expect(consumption.stop).toHaveBeenCalledOnce();
  });

  it('begins none where it left before', async () => {
    const { transport, subscription } = setUp();
    subscription.unsubscribe();
    await turns();
    expect(transport.consume).not.toHaveBeenCalled();
  });

  it('is handed no partition that was being prepared', async () => {
    const ready = Promise.withResolvers<void>();
    const discarded: string[] = [];
    const { consumed, partitions, subscription } = setUp({
      discard: (prepared) => discarded.push(prepared),
      prepare: async () => {
        await ready.promise;
        return { start: { next: 4 }, prepared: 'four' };
      },
    });
    const { onAssigned } = await consumed();
    const starts = onAssigned!([0]);
    subscription.unsubscribe();
    ready.resolve();
    expect([...(await starts)!]).toEqual([[0, 4]]);
    expect([partitions, discarded]).toEqual([[], ['four']]);
  });

  it('does not mind that the consumption cannot be stopped', async () => {
    const { consumed, subscription, consumption, errors } = setUp();
    await consumed();
    await turns();
    consumption.stop = () => Promise.reject(new Error('gone'));
    subscription.unsubscribe();
    await turns();
    expect(errors).toEqual([]);
  });
});

describe('the stream of a group fails', () => {
  it('with its consumption', async () => {
    const { consumed, errors } = setUp();
    (await consumed()).onError(new Error('lost for good'));
    expect(errors).toEqual([new Error('lost for good')]);
  });

  it('where the consumption cannot begin', async () => {
    const { errors } = setUp({}, Promise.reject(new Error('no broker')));
    await eventually(() => expect(errors).toEqual([new Error('no broker')]));
  });

  it.each<[object, RegExp]>([
    [{ topic: '' }, /fromGroup: topic: expected a name/],
    [{ group: '' }, /group: expected a name/],
    [{ prepare: 1 }, /prepare: expected/],
    [{ maxInFlight: 0 }, /maxInFlight: expected >=1/],
    [{ maxBytes: 0.5 }, /maxBytes: expected a whole number/],
  ])('at once where it is told %o', (own, message) => {
    expect(() => setUp(own)).toThrow(message);
  });
});
