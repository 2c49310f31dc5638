import { describe, expect, it, vi } from 'vitest';
import { type KeptScan, ScanSeat } from '../../src/params/scan-seat.ts';
import type { KeptState } from '../../src/params/state-dict.ts';

const state = (name: string): KeptState => ({
  tensors: [],
  facts: {},
  names: [name],
  arrays: {},
  strict: true,
  exact: false,
});

function scan(own: Partial<KeptScan> = {}) {
  let disposed = 0;
  const kept: KeptScan = {
    busy: false,
    settled: true,
    handled: 0,
    positions: [],
    state: () => state('own'),
    rejectionsKept: async () => {},
    dispose: () => (disposed += 1),
    ...own,
  };
  return { kept, disposed: () => disposed };
}

describe('the seat of a scan', () => {
  it('takes one at a time', () => {
    const seat = new ScanSeat();
    seat.enter();
    expect(() => seat.enter()).toThrow(expect.objectContaining({ code: 'RXGRAD_PARAMETERS_IN_USE' }));
    seat.leave();
    seat.enter();
  });

  it('hands what was loaded to one scan, and to none after it', () => {
    const seat = new ScanSeat();
    const loaded = state('loaded');
    seat.load(loaded);
    expect(seat.state()).toBe(loaded);
    expect(seat.enter()).toEqual({ loaded, before: [] });
    seat.leave();
    expect([seat.enter(), seat.state()]).toEqual([{ loaded: null, before: [] }, null]);
  });

  it('tells a scan how far the one before it has read', () => {
    const seat = new ScanSeat();
    seat.enter();
    seat.keep(scan({ positions: [['g', 0, 7]] }).kept);
    seat.leave();
    expect(seat.enter().before).toEqual([['g', 0, 7]]);
  });

  it('keeps the state of the last scan until another enters, or one is loaded', () => {
    for (const next of [(seat: ScanSeat) => void seat.enter(), (seat: ScanSeat) => seat.load(null)]) {
      const seat = new ScanSeat();
      const { kept, disposed } = scan();
      seat.enter();
      seat.keep(kept);
      seat.leave();
      expect([seat.state()?.names, disposed()]).toEqual([['own'], 0]);
      next(seat);
      expect([seat.state(), disposed()]).toEqual([null, 1]);
    }
  });

  it('tells what its scan does, and that nothing is under way where there is none', async () => {
    const seat = new ScanSeat();
    expect([seat.busy, seat.settled, seat.handled]).toEqual([false, true, 0]);
    await seat.rejectionsKept();
    const rejectionsKept = vi.fn(async () => {});
    seat.keep(scan({ busy: true, settled: false, handled: 7, rejectionsKept }).kept);
    expect([seat.busy, seat.settled, seat.handled]).toEqual([true, false, 7]);
    expect(() => seat.state()).toThrow(expect.objectContaining({ code: 'RXGRAD_STEP_UNDER_WAY' }));
    await seat.rejectionsKept();
    expect(rejectionsKept).toHaveBeenCalledOnce();
  });
});

describe('a seat that is held', () => {
  it('is so until all who hold it have let go, however they end', async () => {
    const seat = new ScanSeat();
    expect(seat.held).toBeNull();
    const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    seat.hold(first.promise);
    const one = seat.held;
    seat.hold(second.promise);
    const both = seat.held;
    second.reject(new Error('a copy that failed'));
    first.resolve();
    await one;
    expect(seat.held).toBe(both);
    await both;
    expect(seat.held).toBeNull();
  });

  it('waits for the first, too', async () => {
    const seat = new ScanSeat();
    const first = Promise.withResolvers<void>();
    seat.hold(first.promise);
    seat.hold(Promise.resolve());
    let isFree = false;
    const free = seat.held!.then(() => (isFree = true));
    await new Promise(setImmediate);
    expect(isFree).toBe(false);
    first.resolve();
    await free;
  });
});
