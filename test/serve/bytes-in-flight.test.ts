import { describe, expect, it, vi } from 'vitest';
import { BytesInFlight } from '../../src/serve/bytes-in-flight.ts';

function inFlight(limit: number) {
  const refused = vi.fn();
  const all = new BytesInFlight(limit, refused);
  const open = (bytes = 0) => {
    const refuse = vi.fn();
    const lease = all.open(refuse);
    if (bytes > 0) expect(lease.take(bytes)).toBe(true);
    return { lease, refuse };
  };
  return { all, open, refused };
}

describe('bytes in flight', () => {
  it('are counted until their request is over', () => {
    const { all, open } = inFlight(100);
    const [a, b] = [open(60), open(40)];
    expect(all.figures).toEqual({ bytes: 100, limit: 100, refused: 0 });
    a.lease.take(-10);
    a.lease.arrived();
    expect(all.figures.bytes).toBe(90);
    a.lease.close();
    a.lease.close();
    expect(all.figures.bytes).toBe(40);
    b.lease.close();
    expect(all.figures).toEqual({ bytes: 0, limit: 100, refused: 0 });
    expect(b.lease.take(1)).toBe(false);
    expect(all.figures.bytes).toBe(0);
  });

  it('make room by the largest request that is still coming', () => {
    const { all, open, refused } = inFlight(100);
    const [large, larger, small] = [open(40), open(50), open(5)];
    const { lease } = open();
    expect(lease.take(10)).toBe(true);
    expect(larger.refuse).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ key: 'serverFull', status: 503 }));
    for (const { refuse } of [large, small]) expect(refuse).not.toHaveBeenCalled();
    expect(all.figures).toEqual({ bytes: 55, limit: 100, refused: 1 });
    expect(refused).toHaveBeenCalledOnce();
    expect(larger.lease.isOpen).toBe(false);
  });

  it('are refused to who would have the most', () => {
    const { all, open } = inFlight(100);
    const other = open(50);
    const { lease, refuse } = open(40);
    expect(lease.take(11)).toBe(false);
    expect(refuse).toHaveBeenCalledOnce();
    expect(other.refuse).not.toHaveBeenCalled();
    expect(all.figures).toEqual({ bytes: 50, limit: 100, refused: 1 });
  });

  it('stay with requests that are there as a whole', () => {
    const { all, open } = inFlight(100);
    const whole = open(90);
    whole.lease.arrived();
    const { lease, refuse } = open();
    expect(lease.take(11)).toBe(false);
    expect(refuse).toHaveBeenCalledOnce();
    expect(whole.refuse).not.toHaveBeenCalled();
    // The next message of a stream is one that comes.
    whole.lease.arriving();
    expect(open(11).lease.isOpen).toBe(true);
    expect(whole.refuse).toHaveBeenCalledOnce();
    expect(all.figures.bytes).toBe(11);
  });

  it('count what they become, which can be too much for now, or for ever', () => {
    const { all, open } = inFlight(100);
    const { lease } = open(60);
    lease.arrived();
    lease.decoded(40);
    expect(all.figures.bytes).toBe(100);
    expect(() => open().lease.decoded(1)).toThrow(/room for this request among the 100 bytes/);
    expect(() => open().lease.decoded(101)).toThrow('body: expected at most what takes 100 bytes as tensors, got 101');
  });
});
