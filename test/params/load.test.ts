import fc from 'fast-check';
import { Parameters, type WeightsReader } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { WRITER_SLOTS } from '../../src/params/slot-table.ts';

const w = (value: number) => ({ w: [value, value, value] });
const seen = (reader: WeightsReader, slot: number) => [reader.version(slot), ...reader.weights(slot).w!];

describe('weights are loaded at once', () => {
  it('while each version is being read on this thread', () => {
    const params = Parameters.create({ w: { dims: [3] } });
    const reader = params.reader();
    const held = [reader.acquire()];
    for (let version = 1; version <= 20; version++) {
      params.load(w(version));
      held.push(reader.acquire());
    }
    expect(new Set(held).size).toBe(21);
    for (const [version, slot] of held.entries()) expect(seen(reader, slot)).toEqual([version, version, version, version]);
    expect([...params.get('w').data]).toEqual([20, 20, 20]);
  });

  it('in memory that is used again when readers have let go', () => {
    const params = Parameters.create({ w: { dims: [3] } });
    const reader = params.reader();
    const round = () => {
      const held = [];
      for (let i = 0; i < 5; i++) {
        held.push(reader.acquire());
        params.load(w(i));
      }
      for (const slot of held) reader.release(slot);
    };
    round();
    const before = params.arena.allocate(64);
    for (let i = 0; i < 100; i++) round();
    expect(params.arena.allocate(64)).toBe(before + 64);
  });

  it('or not at all, where as many are being read as there are buffers', async () => {
    const params = Parameters.create({ w: { dims: [3] } });
    const reader = params.reader();
    const held = [reader.acquire()];
    for (let version = 1; version < WRITER_SLOTS; version++) {
      params.load(w(version));
      held.push(reader.acquire());
    }
    const load = () => params.load(w(99));
    expect(load).toThrow(/nobody reads, but all 34 are being read.*await params.whenFree\(\), then load again/);
    expect([params.version, ...params.get('w').data]).toEqual([33, 33, 33, 33]);
    const free = params.whenFree();
    for (const slot of held) reader.release(slot);
    await free;
    load();
    expect([params.version, ...params.get('w').data]).toEqual([34, 99, 99, 99]);
  });

  it('in a buffer that a reader has let go of since, where all were being read', () => {
    const params = Parameters.create({ w: { dims: [3] } });
    const reader = params.reader();
    const held = [reader.acquire()];
    for (let version = 1; version < WRITER_SLOTS; version++) {
      params.load(w(version));
      held.push(reader.acquire());
    }
    expect(() => params.load(w(99))).toThrow(expect.objectContaining({ code: 'RXGRAD_BUFFERS_IN_USE' }));
    reader.release(held[5]!);
    params.load(w(34));
    expect(reader.read((weights, version) => [version, ...weights.w!])).toEqual([34, 34, 34, 34]);
    for (const [version, slot] of held.entries()) if (version !== 5) expect(seen(reader, slot)).toEqual(Array(4).fill(version));
  });

  it('while a version is being kept', async () => {
    const length = 3_000_000;
    const params = Parameters.create({ w: { dims: [length] } });
    const reader = params.reader();
    const keeping = params.kept.keep({ labels: ['first'] });
    for (let version = 1; version <= 3; version++) params.load({ w: new Float32Array(length).fill(version) });
    expect(params.liveVersion).toBe(3);
    expect((await keeping).version).toBe(0);
    expect(params.kept.weights('first').w!.every((value) => value === 0)).toBe(true);
    expect(reader.read((weights, version) => weights.w!.every((value) => value === version))).toBe(true);
  });

  it('while the newest version, which is not live, is being kept', async () => {
    const length = 3_000_000;
    const params = Parameters.create({ w: { dims: [length] } });
    params.reader();
    params.pin();
    params.load({ w: new Float32Array(length).fill(1) });
    const keeping = params.kept.keepLatest({ labels: ['candidate'] });
    for (let version = 2; version <= 4; version++) params.load({ w: new Float32Array(length).fill(version) });
    expect((await keeping).version).toBe(1);
    expect(params.kept.weights('candidate').w!.every((value) => value === 1)).toBe(true);
  });

  it('whole, or not at all', () => {
    const params = Parameters.create({ a: { dims: [2], data: [1, 2] }, w: { dims: [3], data: [3, 4, 5] } });
    const wrong = [BigInt64Array.of(1n, 2n, 3n), [1, Symbol('2'), 3]];
    for (const values of wrong)
      expect(() => params.load({ a: [8, 9], w: values as unknown as ArrayLike<number> })).toThrow(TypeError);
    expect([...params].flatMap(({ data }) => [...data])).toEqual([1, 2, 3, 4, 5]);
    params.load(w(7));
    expect(params.version).toBe(1);
    expect([...params].flatMap(({ data }) => [...data])).toEqual([1, 2, 7, 7, 7]);
  });
});

it('readers see each version whole, whatever is loaded, kept, pinned and read meanwhile', async () => {
  const action = fc.constantFrom('load', 'part', 'notFinite', 'acquire', 'release', 'keep', 'pin', 'pinLive', 'unpin', 'forget');
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 60 }), async (actions) => {
      const params = Parameters.create({ a: { dims: [2] }, w: { dims: [3] } });
      const reader = params.reader();
      params.kept.limit = 3;
      const held: { slot: number; is: number[] }[] = [];
      const now = (slot: number) => [reader.version(slot), ...reader.weights(slot).a!, ...reader.weights(slot).w!];
      const keeping: Promise<unknown>[] = [];
      for (const [i, what] of actions.entries()) {
        const any = params.kept.list()[i % 4];
        if (what === 'load') params.load({ a: [i, i], w: [i, i, i] });
        else if (what === 'part') params.load({ w: [i, i, i] });
        else if (what === 'notFinite') params.load({ a: [Number.NaN, i] });
        else if (what === 'release') reader.release(held.splice(i % held.length, 1)[0]?.slot ?? reader.acquire());
        else if (what === 'keep') keeping.push(params.kept.keep());
        else if (what === 'pinLive') params.pin();
        else if (what === 'unpin' && params.finite) params.unpin();
        else if (what === 'pin' && any) params.pin(any);
        else if (what === 'forget' && any && params.leftRight.isIdle(any.slot)) params.kept.forget(any.version);
        else if (what === 'acquire' && held.length < 20) {
          const slot = reader.acquire();
          held.push({ slot, is: now(slot) });
        }
        if (i % 3 === 0) await Promise.all(keeping.splice(0));
        for (const { slot, is } of held) expect(now(slot)).toEqual(is);
        expect(now(params.leftRight.live).every(Number.isFinite)).toBe(true);
      }
      await Promise.all(keeping);
      for (const { slot } of held) reader.release(slot);
      const slots = Array.from({ length: 64 }, (_, slot) => slot);
      expect(slots.filter((slot) => !params.leftRight.isFree(slot))).toEqual([]);
    }),
    { numRuns: 300 },
  );
});
