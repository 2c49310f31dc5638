import { memoryTransport, type Transport } from 'rxgrad';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { everyMinute, watchTopic } from '../../src/sources/topic-watch.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  return () => vi.useRealTimers();
});

describe('a topic that is watched', () => {
  function watched(described: () => Promise<{ id: string | null; partitions: number }>) {
    const transport: Transport = { ...memoryTransport(), describeTopic: vi.fn(described) };
    const events = { grown: vi.fn(), failed: vi.fn() };
    const end = watchTopic(transport, 'g', { id: 'first', partitions: 2 }, events);
    return { events, end, asked: vi.mocked(transport.describeTopic!) };
  }

  it('is looked at every five seconds, until that is ended', async () => {
    const { asked, end, events } = watched(async () => ({ id: 'first', partitions: 2 }));
    await vi.advanceTimersByTimeAsync(4_999);
    expect(asked).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(10_001);
    expect(asked).toHaveBeenCalledTimes(3);
    end();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(asked).toHaveBeenCalledTimes(3);
    expect([events.grown, events.failed].map(({ mock }) => mock.calls)).toEqual([[], []]);
  });

  it('tells of more partitions, once for each number', async () => {
    let partitions = 1;
    const { events } = watched(async () => ({ id: 'first', partitions }));
    await vi.advanceTimersByTimeAsync(5_000);
    partitions = 3;
    await vi.advanceTimersByTimeAsync(10_000);
    partitions = 4;
    await vi.advanceTimersByTimeAsync(10_000);
    expect(events.grown.mock.calls).toEqual([[3], [4]]);
  });

  it('fails where it is another one now, or its growth is a failure', async () => {
    let described: { id: string | null; partitions: number } = { id: null, partitions: 2 };
    const { events } = watched(async () => described);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(events.failed).not.toHaveBeenCalled();
    events.grown.mockImplementation(() => {
      throw new Error('too many');
    });
    described = { id: 'first', partitions: 9 };
    await vi.advanceTimersByTimeAsync(5_000);
    described = { id: 'second', partitions: 2 };
    await vi.advanceTimersByTimeAsync(5_000);
    expect(events.failed.mock.calls).toEqual([[new Error('too many')], [expect.objectContaining({ key: 'topicReplaced' })]]);
  });

  it('is asked one question at a time, and not told of what comes too late', async () => {
    const answer = Promise.withResolvers<{ id: string; partitions: number }>();
    const { asked, end, events } = watched(() => answer.promise);
    await vi.advanceTimersByTimeAsync(30_000);
    expect(asked).toHaveBeenCalledOnce();
    end();
    answer.resolve({ id: 'second', partitions: 9 });
    await new Promise(setImmediate);
    expect([events.grown, events.failed].map(({ mock }) => mock.calls)).toEqual([[], []]);
  });

  it('may be out of reach', async () => {
    const { asked, events } = watched(() => Promise.reject(new Error('out of reach')));
    await vi.advanceTimersByTimeAsync(10_000);
    expect(asked).toHaveBeenCalledTimes(2);
    expect(events.failed).not.toHaveBeenCalled();
  });
});

describe('what is done every minute', () => {
  it('is done once at a time, until that is ended', async () => {
    let done = Promise.withResolvers<void>();
    const action = vi.fn(() => done.promise);
    const end = everyMinute(action);
    await vi.advanceTimersByTimeAsync(59_999);
    expect(action).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(600_001);
    expect(action).toHaveBeenCalledOnce();
    done.resolve();
    await new Promise(setImmediate);
    done = Promise.withResolvers();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(action).toHaveBeenCalledTimes(2);
    end();
    done.resolve();
    await vi.advanceTimersByTimeAsync(600_000);
    expect(action).toHaveBeenCalledTimes(2);
  });

  it('warns where it fails, and is done again', async () => {
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const action = vi.fn(() => Promise.reject(new Error('out of reach')));
    const end = everyMinute(action);
    await vi.advanceTimersByTimeAsync(120_000);
    expect(action).toHaveBeenCalledTimes(2);
    expect(warned.mock.calls).toEqual(Array(2).fill(['out of reach', { code: 'RXGRAD_WATCH_FAILED' }]));
    warned.mockRestore();
    end();
  });
});
