import {
  addDecayedWeights,
  clipByGlobalNorm,
  epochBoundary,
  type Figures,
  gradientBatch,
  hotSwap,
  metricReport,
  momentum,
  Parameters,
  stepLR,
  type TrainingEvent,
  tapMetrics,
} from 'rxgrad';
import { lastValueFrom, of, throwError, toArray } from 'rxjs';
import { TestScheduler } from 'rxjs/testing';
import { describe, expect, it } from 'vitest';

const batch = (...values: number[]) => gradientBatch({ gradients: { w: Float32Array.from(values) } });
const model = () => Parameters.create({ w: { dims: [2], data: [1, 2] } });
const bad = gradientBatch({ gradients: { other: Float32Array.of(1) } });

/** The last of the figures. */
function last(): { next(figures: Figures): void; figures: Figures } {
  return {
    figures: undefined as unknown as Figures,
    next(figures) {
      this.figures = figures;
    },
  };
}

describe('tapMetrics before a scan', () => {
  it('counts batches and epochs, and takes the norm as it is at that point', () => {
    const [raw, clipped] = [last(), last()];
    of(batch(3, 4), epochBoundary(0), batch(6, 8), metricReport({ name: 'a', value: 1 }))
      .pipe(tapMetrics(raw), clipByGlobalNorm(2.5), tapMetrics(clipped), momentum(model()))
      .subscribe();
    expect(raw.figures).toMatchObject({ batches: 2, epochs: 1, gradientNorm: 10, version: null, clippedShare: null });
    expect(clipped.figures.gradientNorm).toBeCloseTo(2.5, 6);
  });

  it('has no norm where that needs weights that nobody gave', () => {
    const [without, given] = [last(), last()];
    const params = model();
    of(batch(2, 2)).pipe(addDecayedWeights(1), tapMetrics(without)).subscribe();
    of(batch(2, 2)).pipe(addDecayedWeights(1, params), tapMetrics(given)).subscribe();
    expect(without.figures).toMatchObject({ batches: 1, gradientNorm: null });
    expect(given.figures.gradientNorm).toBe(5);
  });

  it('lets a bad batch through to the scan', () => {
    const params = model();
    const seen = last();
    of(bad, batch(Number.NaN, 1), batch(1, 1))
      .pipe(addDecayedWeights(0.1, params), tapMetrics(seen), momentum(params))
      .subscribe();
    expect(seen.figures.batches).toBe(3);
    expect(params.version).toBe(1);
  });
});

describe('tapMetrics behind a scan', () => {
  it('knows rate, share clipped, staleness, version and swap', () => {
    const params = model();
    const seen = last();
    const session = { params, swap: () => params.swap() };
    const lr = stepLR({ baseLr: 1, stepSize: 1, gamma: 0.5 });
    of(batch(3, 4), epochBoundary(0), gradientBatch({ gradients: { w: Float32Array.of(0, 0.5) }, base: 0 }))
      .pipe(clipByGlobalNorm(1), momentum(params, { lr }), hotSwap(session), tapMetrics(seen))
      .subscribe();
    expect(seen.figures).toMatchObject({ batches: 2, lr: 0.5, clippedShare: 0.5, gradientNorm: 0.5, staleness: 1, version: 2 });
    expect(seen.figures.stepMs).toBeGreaterThanOrEqual(0);
    expect(seen.figures.swapMs).toBeGreaterThanOrEqual(0);
  });
});

describe('tapMetrics', () => {
  it('passes everything on untouched', async () => {
    const events = [batch(1, 2), epochBoundary(0), metricReport({ name: 'a', value: 1 })];
    const passed = await lastValueFrom(
      of(...events).pipe(
        tapMetrics<TrainingEvent>(() => {}),
        toArray(),
      ),
    );
    for (const [i, event] of events.entries()) expect(passed[i]).toBe(event);
  });

  it('counts for each subscription', () => {
    const counts: number[] = [];
    const tapped$ = of(batch(1, 1), batch(1, 1)).pipe(tapMetrics(({ batches }) => counts.push(batches)));
    tapped$.subscribe();
    tapped$.subscribe();
    expect(counts).toEqual([1, 2, 1, 2]);
  });

  it.each([
    ['-', '-', '^'],
    ['--|', '--|', '^-!'],
    ['a-a-|', 'a-a-|', '^---!'],
    ['a-#', 'a-#', '^-!'],
  ])('over %s', (source, expected, subscription) => {
    new TestScheduler((actual, wanted) => expect(actual).toEqual(wanted)).run(
      ({ cold, expectObservable, expectSubscriptions }) => {
        const events$ = cold(source, { a: batch(1, 1) });
        expectObservable(events$.pipe(tapMetrics(() => {}))).toBe(expected, { a: batch(1, 1) });
        expectSubscriptions(events$.subscriptions).toBe(subscription);
      },
    );
  });

  it('tells its observer of the end', () => {
    const told: string[] = [];
    const observer = { complete: () => told.push('complete'), error: (error: Error) => told.push(error.message) };
    of(batch(1, 1)).pipe(tapMetrics(observer)).subscribe();
    throwError(() => new Error('lost'))
      .pipe(tapMetrics(observer))
      .subscribe({ error: () => {} });
    expect(told).toEqual(['complete', 'lost']);
  });

  it('ends the stream with what its observer throws', async () => {
    const tapped$ = of(batch(1, 1)).pipe(
      tapMetrics(() => {
        throw new Error('observer');
      }),
    );
    await expect(lastValueFrom(tapped$)).rejects.toThrow('observer');
  });
});
