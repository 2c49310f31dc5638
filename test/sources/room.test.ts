import type { Position } from 'rxgrad';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { InFlight } from '../../src/sources/in-flight.ts';

const at = (offset: number, partition = 0): Position => ({ topic: 't', partition, offset });

function inFlight(events = 3, bytes = 100) {
  const acknowledged: [number, number][] = [];
  const room = new InFlight(events, bytes, ({ partition, offset }) => void acknowledged.push([partition, offset]));
  onTestFinished(() => room.close());
  return { room, acknowledged };
}

describe('room for events in flight', () => {
  it('is for so many, and for so many bytes; one that is larger has to be alone', () => {
    const { room } = inFlight();
    expect(room.hasRoom(1000)).toBe(true);
    room.add(at(0), 60);
    expect([room.hasRoom(40), room.hasRoom(41)]).toEqual([true, false]);
    room.add(at(1), 1);
    room.add(at(2), 1);
    expect(room.hasRoom(0)).toBe(false);
    expect(room.of(0)).toEqual({ inFlight: 3, inFlightBytes: 62 });
    expect(room.of(1)).toEqual({ inFlight: 0, inFlightBytes: 0 });
    room.done(at(1));
    expect(room.of(0)).toEqual({ inFlight: 1, inFlightBytes: 1 });
    expect([room.hasRoom(99), room.hasRoom(100)]).toEqual([true, false]);
  });

  it('is free once where an event is released and acknowledged, and acknowledged once', () => {
    const { room, acknowledged } = inFlight();
    for (const offset of [0, 1, 2]) room.add(at(offset), 10);
    room.release(at(1));
    room.release(at(1));
    expect(room.of(0)).toEqual({ inFlight: 2, inFlightBytes: 20 });
    expect(acknowledged).toEqual([]);
    room.release(at(7));
    room.release(at(0, 5));
    expect(room.of(0).inFlight).toBe(2);
    room.done(at(2));
    room.done(at(2));
    room.release(at(2));
    expect(acknowledged).toEqual([[0, 2]]);
    expect(room.of(0)).toEqual({ inFlight: 0, inFlightBytes: 0 });
    for (const offset of [3, 4, 5]) room.add(at(offset), 10);
    expect(room.hasRoom(1)).toBe(false);
  });

  it('is waited for until something is done, released, or all is over', async () => {
    for (const free of [
      (room: InFlight) => room.done(at(0)),
      (room: InFlight) => room.release(at(0)),
      (room: InFlight) => room.close(),
    ]) {
      const { room } = inFlight(1);
      room.add(at(0), 1);
      let waited = false;
      const waiting = room.whenRoom().then(() => {
        waited = true;
      });
      await new Promise(setImmediate);
      expect(waited).toBe(false);
      free(room);
      await waiting;
    }
  });

  it('that nobody makes for ten seconds is warned of, once a wait', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const warnings = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    onTestFinished(() => void warnings.mockRestore());
    const { room } = inFlight(2);
    room.add(at(0), 30);
    room.add(at(1), 12);
    void room.whenRoom();
    void room.whenRoom();
    vi.advanceTimersByTime(9999);
    expect(warnings).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    expect(warnings).toHaveBeenCalledExactlyOnceWith(expect.stringContaining('2 events (42 bytes) are in flight'), {
      code: 'RXGRAD_STALLED',
    });
    room.done(at(0));
    void room.whenRoom();
    vi.advanceTimersByTime(5000);
    room.done(at(1));
    vi.advanceTimersByTime(60_000);
    expect(warnings).toHaveBeenCalledOnce();
  });
});
