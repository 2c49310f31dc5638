import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { gradientBatch, hotSwap, optimizer, Parameters } from 'rxgrad';
import { Subject } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { eventually } from '../eventually.ts';

const large = 3_000_000;
const made = { madeAtMs: 1, position: null };
const w = (value: number) => ({ w: Float32Array.of(value) });

/** Weights that carry their version's number, each step one more. */
function stepped(dims: readonly number[]) {
  const params = Parameters.create({ w: { dims } });
  const length = params.get('w').length;
  const batches$ = new Subject<ReturnType<typeof gradientBatch>>();
  const session = { params, swap: () => void params.swap() };
  const subscription = batches$.pipe(optimizer(params, { type: 'SGD', lr: 1 }), hotSwap(session)).subscribe();
  const batch = gradientBatch({ gradients: { w: new Float32Array(length).fill(-1) } });
  return { params, reader: params.reader(), step: () => batches$.next(batch), end: () => subscription.unsubscribe() };
}

describe('kept versions', () => {
  it('are shown by the flip of an index, and stay while the scan goes on', async () => {
    const { params, reader, step } = stepped([4]);
    step();
    await params.kept.keep();
    step();
    step();
    expect(params.liveVersion).toBe(3);
    params.pin(params.kept.find(1));
    expect(reader.read((weights, version) => [version, ...weights.w!])).toEqual([1, 1, 1, 1, 1]);
    step();
    step();
    expect(params.version).toBe(5);
    expect([...params.get('w').data]).toEqual([5, 5, 5, 5]);
    expect(reader.read((weights, version) => [version, ...weights.w!])).toEqual([1, 1, 1, 1, 1]);
    params.unpin();
    expect(reader.read((weights, version) => [version, ...weights.w!])).toEqual([5, 5, 5, 5, 5]);
    step();
    expect(reader.read((weights, version) => [version, ...weights.w!])).toEqual([6, 6, 6, 6, 6]);
  });

  it('stay where they are pinned without a version of their own', () => {
    const { params, reader, step } = stepped([4]);
    step();
    params.pin();
    step();
    step();
    expect(params.version).toBe(3);
    expect(reader.read((weights, version) => [version, ...weights.w!])).toEqual([1, 1, 1, 1, 1]);
    params.unpin();
    expect(reader.read((weights, version) => [version, ...weights.w!])).toEqual([3, 3, 3, 3, 3]);
  });

  it('let the oldest go, but none that has a label, is live or is being read', async () => {
    const { params, reader, step } = stepped([4]);
    params.kept.limit = 2;
    for (let version = 1; version <= 4; version++) {
      step();
      await params.kept.keep({ labels: version === 1 ? ['stable'] : [] });
    }
    expect(params.kept.list().map(({ version, labels }) => [version, labels])).toEqual([
      [4, []],
      [1, ['stable']],
    ]);
    const { slot } = params.kept.find(4);
    reader.hold(slot);
    step();
    await params.kept.keep();
    expect(params.kept.list().map(({ version }) => version)).toEqual([5, 4, 1]);
    reader.release(slot);
    params.kept.label(5, 'stable');
    step();
    await params.kept.keep();
    expect(params.kept.list().map(({ version }) => version)).toEqual([6, 5]);
    expect(() => params.kept.find(4)).toThrow(/expected a version that is there \(6, 5 stable\), got 4/);
    params.pin(params.kept.find('stable'));
    expect(() => params.kept.forget(5)).toThrow(/version 5 to be let go/);
  });

  it('leave no memory and no marks behind', async () => {
    const { params, step } = stepped([1000]);
    params.reader();
    const round = async (): Promise<void> => {
      step();
      const { version } = await params.kept.keep();
      step();
      await params.kept.keepLatest();
      params.kept.forget(version);
    };
    for (let i = 0; i < 10; i++) await round();
    const before = params.arena.allocate(64);
    for (let i = 0; i < 50; i++) await round();
    expect(params.arena.allocate(64)).toBe(before + 64);
    const slots = Array.from({ length: 64 }, (_, slot) => slot);
    expect(slots.filter((slot) => !params.leftRight.isFree(slot))).toEqual([]);
  });

  it('are as many as may be kept at most, where each has a label', async () => {
    const params = Parameters.create({ w: { dims: [1] } });
    for (const limit of [0, 1.5, 31, Number.NaN]) expect(() => (params.kept.limit = limit)).toThrow(/expected 1 to 30/);
    expect(params.kept.limit).toBe(5);
    for (let version = 1; version <= 30; version++)
      params.kept.add({ ...made, version }, w(version), { labels: [`v${version}`] });
    expect(params.kept.list().map(({ version }) => version)).toEqual(Array.from({ length: 30 }, (_, i) => 30 - i));
    const add = () => params.kept.add({ ...made, version: 31 }, w(31));
    expect(add).toThrow(/at most 30, got as many that have labels or are in use/);
    const before = params.arena.allocate(1 << 16);
    await expect(params.kept.keep()).rejects.toThrow(/at most 30/);
    expect(params.arena.allocate(1 << 16)).toBe(before + (1 << 16));
    params.kept.limit = 30;
    params.kept.unlabel('v7');
    add();
    expect(params.kept.has(7)).toBe(false);
    expect([...params.kept.weights(31).w!, ...params.kept.weights('v8').w!]).toEqual([31, 8]);
    params.kept.limit = 1;
    for (let version = 1; version <= 30; version++) params.kept.unlabel(`v${version}`);
    params.kept.add({ ...made, version: 32 }, w(32));
    expect(params.kept.list().map(({ version }) => version)).toEqual([32]);
  });

  it('that come from elsewhere are shown with what is known of them, and kept once', () => {
    const params = Parameters.create({ a: { dims: [2] }, w: { dims: [1] } });
    const facts = { version: 12, madeAtMs: 5000, position: { topic: 'gradients', partition: 1, offset: 9 } };
    const kept = params.kept.add(facts, { ...w(3), a: Float32Array.of(1, 2) }, { labels: ['first'] });
    expect(kept).toMatchObject({ ...facts, labels: ['first'] });
    expect(params.kept.add({ ...facts, madeAtMs: 1 }, { ...w(4), a: new Float32Array(2) }, { labels: ['again'] })).toMatchObject({
      slot: kept.slot,
      madeAtMs: 5000,
      labels: ['first', 'again'],
    });
    const slot = params.reader().acquire();
    expect(params.show(kept)).toBe(true);
    expect(params.live).toEqual(facts);
    expect(params.reader().read(({ a, w }) => [...a!, ...w!])).toEqual([1, 2, 3]);
    expect([slot, params.version, params.liveVersion]).toEqual([0, 0, 12]);
  });

  it('are found by number or label, and a label is one version’s', () => {
    const params = Parameters.create({ w: { dims: [1] } });
    for (const version of [4, 5]) params.kept.add({ ...made, version }, w(version));
    params.kept.label(4, 'stable');
    expect([params.kept.has(4), params.kept.has('stable'), params.kept.has('4'), params.kept.has(6)]).toEqual([
      true,
      true,
      false,
      false,
    ]);
    params.kept.label('stable', 'older');
    params.kept.label(5, 'stable');
    expect(params.kept.list().map(({ version, labels }) => [version, labels])).toEqual([
      [5, ['stable']],
      [4, ['older']],
    ]);
    params.kept.unlabel('stable');
    expect(() => params.kept.find('stable')).toThrow(/there \(0, which is live, 5, 4 older\), got stable/);
    params.kept.label(5, 'a'.repeat(64));
    params.kept.label(5, 'ä_1.-');
    params.show(params.kept.find(5));
    expect(() => params.kept.find(6)).toThrow(/there \(5 a+ ä_1.-, 4 older\), got 6/);
  });

  it('are let go one by one, and no longer shown or pinned then', () => {
    const params = Parameters.create({ w: { dims: [1] } });
    const [one, two] = [1, 2].map((version) => params.kept.add({ ...made, version }, w(version), { labels: [`v${version}`] }));
    params.kept.forget('v1');
    expect(params.kept.list().map(({ version }) => version)).toEqual([2]);
    for (const use of [() => params.show(one!), () => params.pin(one), () => params.kept.forget(1)])
      expect(use).toThrow(expect.objectContaining({ code: 'RXGRAD_UNKNOWN_VERSION' }));
    params.pin();
    expect(params.show(two!)).toBe(false);
    expect(() => params.kept.forget(2)).toThrow(/version 2 to be let go/);
    params.unpin();
    expect(params.liveVersion).toBe(2);
  });

  it('are kept once, at their first time, and whatever is kept comes after what was asked for before', async () => {
    const { params, reader, step } = stepped([large]);
    const first = params.kept.keep({ labels: ['a'] });
    const again = params.kept.keep({ labels: ['b'] });
    const refused = params.kept.keep({ labels: ['not one'] });
    refused.catch(() => {});
    step();
    await eventually(() => expect(params.version).toBe(1));
    const last = params.kept.keep();
    expect((await first).labels).toEqual(['a']);
    expect((await again).labels).toEqual(['a', 'b']);
    await expect(refused).rejects.toThrow(/label/);
    expect((await last).version).toBe(1);
    expect(params.kept.list()).toHaveLength(2);
    expect(params.kept.weights(0).w!.every((value) => value === 0)).toBe(true);
    expect(params.kept.weights(1).w!.every((value) => value === 1)).toBe(true);
    reader.close();
    const slots = Array.from({ length: 64 }, (_, slot) => slot);
    expect(slots.filter((slot) => !params.leftRight.isFree(slot))).toEqual([]);
  });

  it('are none that are not finite', async () => {
    const params = Parameters.create({ w: { dims: [1] } });
    params.reader();
    params.load({ w: [Number.NaN] });
    await expect(params.kept.keepLatest()).rejects.toThrow(expect.objectContaining({ code: 'RXGRAD_WEIGHTS_NOT_FINITE' }));
    expect((await params.kept.keep()).version).toBe(0);
    params.load({ w: [2] });
    expect((await params.kept.keepLatest({ labels: ['newest'] })).version).toBe(2);
  });

  it('refuse labels that could be taken for something else', async () => {
    const { params } = stepped([4]);
    for (const name of ['', '12', 'a b', 'x\n', 'a'.repeat(65)]) {
      await expect(params.kept.keep({ labels: [name] })).rejects.toThrow(/expected up to 64 letters/);
    }
  });

  it('know when and from what they were made', async () => {
    const params = Parameters.create({ w: { dims: [2], data: [1, 2] } });
    const position = { topic: 'gradients', partition: 3, offset: 12_345_678_901 };
    params.load({ w: [3, 4] }, { version: 7, position, madeAtMs: 1000 });
    expect(params.live).toEqual({ version: 7, madeAtMs: 1000, position });
    expect(await params.kept.keep()).toMatchObject({ version: 7, madeAtMs: 1000, position });
    const before = Date.now();
    params.load({ w: [5, 6] });
    expect(params.live.position).toBeNull();
    expect(params.live.madeAtMs).toBeGreaterThanOrEqual(before);
    expect(params.live.madeAtMs).toBeLessThanOrEqual(Date.now());
  });

  it('freeze the newest version between two steps, however large', async () => {
    const { params, step } = stepped([large]);
    params.reader();
    const reaches = async (version: number): Promise<void> => {
      while (params.version < version) await new Promise(setImmediate);
    };
    step();
    await reaches(1);
    params.pin();
    step();
    await reaches(2);
    const kept = params.kept.keepLatest({ labels: ['candidate'] });
    step();
    step();
    expect((await kept).version).toBe(2);
    expect(params.kept.weights('candidate').w!.every((value) => value === 2)).toBe(true);
    await reaches(4);
    expect(params.kept.weights('candidate').w!.every((value) => value === 2)).toBe(true);
  });

  it('are not left for weights that are being written', async () => {
    const { params, reader, step } = stepped([large]);
    const seen = () => reader.read((weights, version) => weights.w!.every((value) => value === version) && version);
    await params.kept.keep();
    params.pin(params.kept.find(0));
    for (let version = 1; version <= 10; version++) {
      step();
      // In the middle of a step that other threads are at.
      await new Promise(setImmediate);
      params.unpin();
      expect(seen()).not.toBe(false);
      while (params.version < version) await new Promise(setImmediate);
      expect(seen()).toBe(version);
      params.pin(params.kept.find(0));
      expect(seen()).toBe(0);
    }
  });

  it('are seen whole on another thread, also in memory that grew behind it', async () => {
    const { params, step, end } = stepped([20_000]);
    const thread = new Worker(new URL('./torn-reads.worker.ts', import.meta.url), { workerData: params.share() });
    await once(thread, 'message');
    for (let round = 0; round < 300; round++) {
      step();
      const kept = await params.kept.keep({ labels: round % 10 === 0 ? [`round-${round % 70}`] : [] });
      step();
      if (round % 3 === 0) params.pin(kept);
      await new Promise(setImmediate);
      while (params.version < 2 * (round + 1)) await new Promise(setImmediate);
      if (round % 3 === 0) params.unpin();
    }
    thread.postMessage('stop');
    const [report] = (await once(thread, 'message')) as [{ reads: number; torn: number; versions: number }];
    end();
    expect(report.torn).toBe(0);
    expect(report.versions).toBeGreaterThan(10);
  });

  it('hold what they held, whatever is kept, labelled, pinned and stepped in between', async () => {
    const action = fc.constantFrom('step', 'keep', 'label', 'pin', 'unpin', 'pinLive', 'forget');
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 40 }), async (actions) => {
        const { params, reader, step, end } = stepped([5]);
        params.kept.limit = 3;
        for (const [i, what] of actions.entries()) {
          const any = params.kept.list()[i % 4];
          if (what === 'step') step();
          else if (what === 'keep') await params.kept.keep();
          else if (what === 'pinLive') params.pin();
          else if (what === 'unpin') params.unpin();
          else if (what === 'label' && any) params.kept.label(any.version, 'stable');
          else if (what === 'pin' && any) params.pin(any);
          else if (what === 'forget' && any && any.version !== params.liveVersion) {
            // The wished one may be it.
            if (params.leftRight.wished !== any.slot) params.kept.forget(any.version);
          }
          for (const { version } of params.kept.list())
            expect([...params.kept.weights(version).w!]).toEqual(Array(5).fill(version));
          expect(reader.read((weights, version) => [...weights.w!].every((value) => value === version))).toBe(true);
          expect([...params.get('w').data]).toEqual(Array(5).fill(params.version));
          if (!params.pinned) expect(params.liveVersion).toBe(params.version);
        }
        end();
      }),
      { numRuns: 200 },
    );
  });
});
