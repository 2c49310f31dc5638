import { gradientBatch, hotSwap, momentum, type Observation, observations, Parameters, sgd, type WeightsUpdate } from 'rxgrad';
import { from, lastValueFrom, of, Subject, toArray } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { load, numbers, rows, rowWise } from '../inference/pool-models.ts';

const w = { w: { dims: [2], data: [1, 2] } };
const step = (value: number) => gradientBatch({ gradients: { w: new Float32Array([value, 0]) } });
const sessionOf = (params: Parameters) => ({ params, swap: () => void params.swap() });

function warnings(): { readonly codes: string[]; stop(): void } {
  const codes: string[] = [];
  const note = (warning: Error) => codes.push((warning as NodeJS.ErrnoException).code ?? '');
  process.on('warning', note);
  return { codes, stop: () => process.off('warning', note) };
}

describe('hotSwap', () => {
  it('leaves the last finite weights live, says so once, and goes on with finite ones', async () => {
    const params = Parameters.create(w);
    const reader = params.reader();
    const heard = warnings();
    const batches$ = new Subject<ReturnType<typeof step>>();
    const updates: number[] = [];
    batches$.pipe(sgd(params, { lr: 1e38 }), hotSwap(sessionOf(params))).subscribe(({ version }) => updates.push(version));
    for (const value of [1, 4, 4, -1]) batches$.next(step(value));
    expect(updates).toEqual([1, 2, 3, 4]);
    expect(params.finite).toBe(false);
    expect(reader.read((weights, version) => [version, ...weights.w!])).toEqual([1, Math.fround(1 - Math.fround(1e38)), 2]);
    params.load({ w: [3, 4] });
    expect(params.finite).toBe(true);
    expect(params.liveVersion).toBe(5);
    batches$.next(step(0));
    expect(params.liveVersion).toBe(6);
    await new Promise(setImmediate);
    heard.stop();
    expect(heard.codes.filter((code) => code === 'RXGRAD_WEIGHTS_NOT_FINITE')).toHaveLength(1);
  });

  it('never shows an average of weights that are not finite', () => {
    const average = Parameters.create(w);
    const trained = average.twin();
    const reader = average.reader();
    const batches$ = new Subject<ReturnType<typeof step>>();
    batches$.pipe(sgd(trained, { lr: 1e38, average: { into: average } }), hotSwap(sessionOf(average))).subscribe();
    for (const value of [1, 4, 4]) batches$.next(step(value));
    expect(average.liveVersion).toBe(1);
    expect(reader.read(({ w }) => w!.every(Number.isFinite))).toBe(true);
  });

  it('stays with what is pinned, and shows what a gate has chosen', async () => {
    const params = Parameters.create(w);
    params.reader();
    const batches = from([step(1), step(1), step(1)]);
    const updates = await lastValueFrom(batches.pipe(momentum(params), toArray()));
    expect(params.liveVersion).toBe(0);
    const candidate = await params.kept.keepLatest();
    updates[2]!.kept = candidate;
    await lastValueFrom(of(updates[2]!).pipe(hotSwap(sessionOf(params))));
    expect(params.leftRight.live).toBe(candidate.slot);
    params.pin();
    updates[2]!.kept = null;
    await lastValueFrom(of(updates[2]!).pipe(hotSwap(sessionOf(params))));
    expect(params.leftRight.live).toBe(candidate.slot);
    params.unpin();
    expect(params.leftRight.live).toBe(params.leftRight.latest);
  });

  it('tells what it took, to the update and to whoever observes', () => {
    const params = Parameters.create(w);
    const seen: Observation[] = [];
    const observing = observations().subscribe((observation) => seen.push(observation));
    const took: (number | null | undefined)[] = [];
    from([step(1), step(1)])
      .pipe(sgd(params), hotSwap(sessionOf(params)))
      .subscribe(({ swapMs }) => took.push(swapMs));
    observing.unsubscribe();
    const swaps = seen.filter((one) => one.kind === 'swap');
    expect(swaps).toMatchObject([
      { at: 'hotSwap', version: 1 },
      { at: 'hotSwap', version: 2 },
    ]);
    expect(swaps.map(({ durationMs }) => durationMs)).toEqual(took);
    for (const ms of took) expect(ms).toBeGreaterThanOrEqual(0);
    expect(Math.max(...took.map(Number))).toBeLessThan(1000);
  });

  it('copies what a gate has chosen into other parameters, not the newest weights', async () => {
    const [trained, served] = [Parameters.create(w), Parameters.create(w)];
    const [first] = await lastValueFrom(from([step(1)]).pipe(sgd(trained, { lr: 1 }), toArray()));
    const kept = await trained.kept.keepLatest();
    await lastValueFrom(from([step(1)]).pipe(sgd(trained, { lr: 1 })));
    first!.kept = kept;
    await lastValueFrom(of(first!).pipe(hotSwap(sessionOf(served))));
    expect([served.liveVersion, ...served.get('w').data]).toEqual([1, 0, 2]);
    expect(served.live.madeAtMs).toBe(kept.madeAtMs);
  });

  describe('of an average', () => {
    /** Two steps of a training with an average, the first of which a gate has kept of the average. */
    async function averaged() {
      const average = Parameters.create(w);
      const trained = average.twin();
      const scan = sgd(trained, { lr: 1, average: { into: average } });
      const batches$ = new Subject<ReturnType<typeof step>>();
      const updates: WeightsUpdate[] = [];
      batches$.pipe(scan).subscribe((update) => updates.push(update));
      batches$.next(step(1));
      const kept = await average.kept.keepLatest();
      const chosen = [...average.get('w').data];
      batches$.next(step(1));
      return { average, trained, kept, chosen, update: updates[1]! };
    }

    it('shows the average, not the trained weights', async () => {
      const { average, trained, update } = await averaged();
      const served = Parameters.create(w);
      await lastValueFrom(of(update).pipe(hotSwap(sessionOf(served))));
      expect([...served.get('w').data]).toEqual([...average.get('w').data]);
      expect([...served.get('w').data]).not.toEqual([...trained.get('w').data]);
    });

    it('shows the average that a gate has chosen, in the same parameters and in others', async () => {
      const { average, kept, chosen, update } = await averaged();
      update.kept = kept;
      const served = Parameters.create(w);
      await lastValueFrom(of(update).pipe(hotSwap(sessionOf(served))));
      expect([...served.get('w').data]).toEqual(chosen);
      const reader = average.reader();
      await lastValueFrom(of(update).pipe(hotSwap(sessionOf(average))));
      expect(reader.read((weights, version) => [version, ...weights.w!])).toEqual([1, ...chosen]);
      expect([...average.get('w').data]).not.toEqual(chosen);
    });
  });

  it('shows what a gate has chosen, although the newest weights are not finite', async () => {
    const params = Parameters.create(w);
    const reader = params.reader();
    const batches$ = new Subject<ReturnType<typeof step>>();
    const updates: WeightsUpdate[] = [];
    batches$.pipe(sgd(params, { lr: 1e38 })).subscribe((update) => updates.push(update));
    batches$.next(step(1));
    const kept = await params.kept.keepLatest();
    for (const value of [4, 4]) batches$.next(step(value));
    expect(params.finite).toBe(false);
    // Warnings of before are told first.
    await new Promise(setImmediate);
    const heard = warnings();
    updates[2]!.kept = kept;
    await lastValueFrom(of(updates[2]!).pipe(hotSwap(sessionOf(params))));
    expect(reader.read((_, version) => version)).toBe(1);
    expect(updates[2]!.swapMs).toBeGreaterThanOrEqual(0);
    await new Promise(setImmediate);
    heard.stop();
    expect(heard.codes).toEqual([]);
  });

  it('says so again where weights are not finite after finite ones came, and for each subscriber', async () => {
    const params = Parameters.create(w);
    await new Promise(setImmediate);
    const heard = warnings();
    const batches$ = new Subject<ReturnType<typeof step>>();
    const updates: WeightsUpdate[] = [];
    batches$.pipe(sgd(params, { lr: 1e38 }), hotSwap(sessionOf(params))).subscribe((update) => updates.push(update));
    for (const value of [4, 4, -1]) batches$.next(step(value));
    params.load({ w: [3, 4] });
    for (const value of [0, 4, 4, -1]) batches$.next(step(value));
    await new Promise(setImmediate);
    heard.stop();
    expect(heard.codes).toEqual(['RXGRAD_WEIGHTS_NOT_FINITE', 'RXGRAD_WEIGHTS_NOT_FINITE']);
    expect(updates.map(({ swapMs }) => swapMs === undefined)).toContain(true);
  });

  it('into other parameters waits for no prediction, and blocks nobody', () => {
    const trained = Parameters.create(w);
    const served = Parameters.create(w);
    const reader = served.reader();
    const batches$ = new Subject<ReturnType<typeof step>>();
    const updates: number[] = [];
    batches$.pipe(sgd(trained, { lr: 1 }), hotSwap(sessionOf(served))).subscribe(({ version }) => updates.push(version));
    const held: number[] = [];
    for (let i = 0; i < 5; i++) {
      held.push(reader.acquire());
      batches$.next(step(1));
    }
    expect(updates).toEqual([1, 2, 3, 4, 5]);
    expect(served.liveVersion).toBe(5);
    for (const [version, slot] of held.entries()) {
      expect([reader.version(slot), ...reader.weights(slot).w!]).toEqual([version, 1 - version, 2]);
    }
  });

  it('into a session of other parameters keeps versions, to which it goes back', async (t) => {
    const session = await load(t, rowWise, { keep: { last: 3, everyVersions: 1 } });
    const trained = Parameters.create(
      Object.fromEntries([...session.params].map(({ name, dims, data }) => [name, { dims, data }])),
    );
    const batches$ = new Subject<ReturnType<typeof gradientBatch>>();
    batches$.pipe(sgd(trained, { lr: 1 }), hotSwap(session)).subscribe();
    const feeds = rows(2);
    const outputs = [];
    for (let version = 1; version <= 3; version++) {
      batches$.next(gradientBatch({ gradients: { shift: new Float32Array(3).fill(-1) } }));
      outputs.push(numbers((await session.predict(feeds)).outputs.y));
      await expect.poll(() => session.params.kept.has(version)).toBe(true);
    }
    expect((await session.rollback()).version).toBe(2);
    const { outputs: again, version } = await session.predict(feeds);
    expect({ version, y: numbers(again.y) }).toEqual({ version: 2, y: outputs[1] });
    expect(outputs[1]).not.toEqual(outputs[2]);
  });
});
