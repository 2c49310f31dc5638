import { encodeEvent, epochBoundary, type LogRecord, type TrainingEvent } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { EventFeed, type FeedOptions, type FeedReader } from '../../src/sources/event-feed.ts';
import { InFlight } from '../../src/sources/in-flight.ts';

function record(epoch: number): LogRecord {
  const { value, headers = {} } = encodeEvent(epochBoundary(epoch));
  return { offset: epoch, key: null, value, headers, timestampMs: 0 };
}

const bytes = record(0).value!.byteLength;

function setUp(own: Partial<FeedReader & FeedOptions> = {}, limits: [number, number] = [2, 1000]) {
  const told: string[] = [];
  const acknowledged: number[] = [];
  const inFlight = new InFlight(...limits, ({ offset }) => void acknowledged.push(offset));
  const reader = {
    closed: false,
    next: (event: TrainingEvent) => void told.push(`event ${event.delivery!.position.offset}`),
    read: (partition: number, next: number) => void told.push(`read ${partition} to ${next}`),
    passed: () => void told.push('passed'),
    ...own,
  };
  const feed = new EventFeed({ inFlight, ...own }, reader);
  const deliver = (...offsets: number[]) => feed.deliver('g', 3, offsets.map(record));
  const done = (offset: number) => inFlight.done({ topic: 'g', partition: 3, offset });
  return { deliver, told, acknowledged, done, reader, inFlight };
}

describe('records that are handed out as events', () => {
  it('are told to be read where all of them were', () => {
    const { deliver, told } = setUp();
    expect(deliver(0, 4)).toBeUndefined();
    expect(told).toEqual(['event 0', 'event 4', 'read 3 to 5']);
  });

  it('wait for room, and are told to be read as far as they were', async () => {
    const { deliver, told, done } = setUp();
    const delivering = deliver(0, 1, 2, 3, 4);
    expect(told).toEqual(['event 0', 'event 1', 'read 3 to 2']);
    done(1);
    await new Promise(setImmediate);
    expect(told.slice(3)).toEqual(['event 2', 'event 3', 'read 3 to 4']);
    done(2);
    await delivering;
    expect(told.slice(6)).toEqual(['event 4', 'read 3 to 5']);
  });

  it('wait for room in bytes, too', async () => {
    const { deliver, told, done, inFlight } = setUp({}, [100, 2 * bytes]);
    deliver(0, 1);
    expect(inFlight.of(3)).toEqual({ inFlight: 2, inFlightBytes: 2 * bytes });
    const delivering = deliver(2);
    expect(told).toEqual(['event 0', 'event 1', 'read 3 to 2']);
    done(0);
    await delivering;
    expect(told.slice(3)).toEqual(['event 2', 'read 3 to 3']);
  });

  it('end before the first that lies behind the end, which is told also where that is the first of all', () => {
    const { deliver, told } = setUp({ isBehind: (_, { offset }) => offset >= 1 });
    deliver(0, 1, 2);
    deliver(1, 2);
    expect(told).toEqual(['event 0', 'read 3 to 1', 'passed']);
    const silent = setUp({ isBehind: () => true, passed: undefined as never });
    expect(() => silent.deliver(1)).not.toThrow();
  });

  it('end where their reader has closed, and nothing is told of that', () => {
    const { deliver, told, reader } = setUp({}, [10, 1000]);
    reader.next = (event) => {
      told.push(`event ${event.delivery!.position.offset}`);
      reader.closed = event.delivery!.position.offset === 1;
    };
    deliver(0, 1, 2);
    deliver(3);
    expect(told).toEqual(['event 0', 'event 1']);
  });

  it('that are left out take no room, and are acknowledged once those before them are', () => {
    const { deliver, told, acknowledged, done } = setUp({ where: ({ delivery }) => delivery!.position.offset !== 1 });
    deliver(0, 1, 2);
    expect(told).toEqual(['event 0', 'event 2', 'read 3 to 3']);
    expect(acknowledged).toEqual([]);
    done(2);
    deliver(1);
    expect(acknowledged).toEqual([2, 1]);
  });

  it('know their source: what was seen before, and how to be done with', () => {
    const seen = { epoch: 1, partitions: [], arrays: {} };
    const events: TrainingEvent[] = [];
    const { deliver, acknowledged, inFlight } = setUp({ next: (event) => void events.push(event), seen, topicId: 'id' });
    deliver(0, 1);
    const [first, second] = events.map(({ delivery }) => delivery!);
    expect(first).toMatchObject({ position: { topic: 'g', partition: 3, offset: 0 }, topicId: 'id', source: { seen } });
    expect(first!.record).toEqual(record(0));
    second!.source.release!(second!.position);
    expect(inFlight.of(3).inFlight).toBe(1);
    first!.source.done(first!.position);
    expect(acknowledged).toEqual([0]);
  });

  it('may have no value', () => {
    const { inFlight, told } = setUp();
    const feed = new EventFeed({ inFlight }, { closed: false, next: () => void told.push('event'), read: () => {} });
    feed.deliver('g', 3, [{ ...record(0), value: null }]);
    expect(inFlight.of(3)).toEqual({ inFlight: 1, inFlightBytes: 0 });
  });
});
