import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { InFlight } from '../../src/sources/in-flight.ts';
import type { Position } from '../../src/sources/transport.ts';

const at = (offset: number, partition = 0): Position => ({ topic: 't', partition, offset });

function counting(maxEvents: number, maxBytes: number): { inFlight: InFlight; acknowledged: Position[] } {
  const acknowledged: Position[] = [];
  return { inFlight: new InFlight(maxEvents, maxBytes, (position) => acknowledged.push(position)), acknowledged };
}

describe('events in flight', () => {
  it('are limited in number', () => {
    const { inFlight } = counting(2, 1000);
    inFlight.add(at(0), 1);
    expect(inFlight.hasRoom(1)).toBe(true);
    inFlight.add(at(1), 1);
    expect(inFlight.hasRoom(1)).toBe(false);
    inFlight.done(at(0));
    expect(inFlight.hasRoom(1)).toBe(true);
  });

  it('are limited in bytes, and one above the limit goes alone', () => {
    const { inFlight } = counting(10, 100);
    expect(inFlight.hasRoom(500)).toBe(true);
    inFlight.add(at(0), 60);
    expect([inFlight.hasRoom(40), inFlight.hasRoom(41), inFlight.hasRoom(500)]).toEqual([true, false, false]);
    inFlight.done(at(0));
    inFlight.add(at(1), 500);
    expect(inFlight.hasRoom(0)).toBe(false);
  });

  it('are done with all those before them in their partition, and in no other', () => {
    const { inFlight, acknowledged } = counting(4, 1000);
    for (const position of [at(0), at(1), at(5), at(0, 1)]) inFlight.add(position, 1);
    inFlight.done(at(5));
    expect(acknowledged).toEqual([at(5)]);
    inFlight.add(at(6), 1);
    inFlight.add(at(7), 1);
    inFlight.add(at(8), 1);
    expect(inFlight.hasRoom(1)).toBe(false);
  });

  it('are acknowledged once, and never backwards', () => {
    const { inFlight, acknowledged } = counting(10, 1000);
    for (let offset = 0; offset < 3; offset++) inFlight.add(at(offset), 1);
    for (const offset of [1, 1, 0, 2]) inFlight.done(at(offset));
    inFlight.done(at(9, 7));
    expect(acknowledged).toEqual([at(1), at(2)]);
  });

  it('that are left out are acknowledged where nothing before them is outstanding', () => {
    const { inFlight, acknowledged } = counting(10, 1000);
    inFlight.skip(at(0));
    inFlight.add(at(1), 1);
    inFlight.skip(at(2));
    inFlight.done(at(1));
    inFlight.skip(at(3));
    expect(acknowledged).toEqual([at(0), at(1), at(3)]);
  });

  it('are counted right over thousands', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 3000 }), { maxLength: 20 }), (runs) => {
        const { inFlight } = counting(1e9, 1e9);
        let [next, done] = [0, 0];
        for (const run of runs) {
          for (let i = 0; i < run; i++) inFlight.add(at(next++), 1e6);
          done += Math.ceil((next - done) / 2);
          inFlight.done(at(done - 1));
          expect(inFlight.hasRoom(1e9 - 1e6 * (next - done))).toBe(true);
          expect(inFlight.hasRoom(1e9 - 1e6 * (next - done) + 1)).toBe(next === done);
        }
      }),
      { numRuns: 20 },
    );
  });
});

describe('who waits for room', () => {
  it('is woken by an acknowledgement and by the end', async () => {
    const { inFlight } = counting(1, 1000);
    inFlight.add(at(0), 1);
    const woken: string[] = [];
    const first = inFlight.whenRoom().then(() => woken.push('acknowledged'));
    inFlight.done(at(0));
    await first;
    inFlight.add(at(1), 1);
    const second = inFlight.whenRoom().then(() => woken.push('closed'));
    inFlight.close();
    await second;
    expect(woken).toEqual(['acknowledged', 'closed']);
  });

  it('for 10 s without one is told so', (t) => {
    vi.useFakeTimers();
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    t.onTestFinished(() => {
      vi.useRealTimers();
      warned.mockRestore();
    });
    const { inFlight } = counting(1, 1000);
    inFlight.add(at(0), 12);
    inFlight.whenRoom();
    vi.advanceTimersByTime(9_999);
    expect(warned).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    expect(warned).toHaveBeenCalledExactlyOnceWith(expect.stringContaining('1 events (12 bytes)'), { code: 'RXGRAD_STALLED' });
  });
});
