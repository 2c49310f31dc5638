import fc from 'fast-check';
import {
  accumulate,
  clipByGlobalNorm,
  type Figures,
  gradientBatch,
  isRxgradError,
  momentum,
  nextFigures,
  noFigures,
  type Observation,
  type OutlierOptions,
  observations,
  optimizer,
  Parameters,
  type Rejection,
  type ScanOptions,
  type TrainingEvent,
  tapMetrics,
} from 'rxgrad';
import { from } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { bitsOf } from './batches.ts';

const model = (): Parameters => Parameters.create({ w: { dims: [2], data: [0, 0] } });
const batch = (norm: number, facts: object = {}) => gradientBatch({ gradients: { w: Float32Array.of(norm, 0) }, ...facts });
const usual = { policy: 'reject', window: 16, after: 8 } as const;

/** Steps through norms, and returns those that were rejected. */
function run(norms: readonly number[], outliers: OutlierOptions, params = model(), options: ScanOptions = {}): number[] {
  const rejected: Rejection[] = [];
  from<TrainingEvent[]>(norms.map((norm, sequence) => batch(norm, { worker: 'w', sequence: params.version + sequence })))
    .pipe(momentum(params, { ...options, outliers, rejections: { next: (rejection) => rejected.push(rejection) } }))
    .subscribe();
  expect(rejected.map(({ reason }) => reason)).toEqual(rejected.map(() => 'normOutlier'));
  return rejected.map(({ error }) => Number(error.details.got));
}

const noise = Array.from({ length: 40 }, (_, i) => 1 + 0.3 * Math.sin(7 * i));

describe('outliers', () => {
  it('are norms far above the last ones, and say so', () => {
    const rejected: Rejection[] = [];
    const params = model();
    from<TrainingEvent[]>([...noise, 1000, 1].map((norm) => batch(norm)))
      .pipe(momentum(params, { outliers: usual, rejections: { next: (rejection) => rejected.push(rejection) } }))
      .subscribe();
    expect(params.version).toBe(41);
    expect(rejected).toHaveLength(1);
    expect(rejected[0]!.error.code).toBe('RXGRAD_NORM_OUTLIER');
    expect(rejected[0]!.error.message).toMatch(
      /^gradient batch: expected a gradient norm of at most [\d.]+ \(the median of the last ones is [\d.]+\), got 1000$/,
    );
  });

  it('leave weights and state untouched', () => {
    const [with_, without] = [model(), model()];
    run([...noise, 1000, ...noise, 2000], usual, with_);
    run([...noise, ...noise], { policy: 'off' }, without);
    expect(bitsOf(with_)).toEqual(bitsOf(without));
  });

  it('are not looked for by default, nor before enough was seen', () => {
    expect(run([...noise, 1e6], { policy: 'off' })).toEqual([]);
    expect(run([...noise.slice(0, 7), 1e6], usual)).toEqual([]);
    expect(run([...noise.slice(0, 8), 1e6], usual)).toEqual([1e6]);
  });

  it('are no small norms, nor any noise of norms that hardly differ', () => {
    expect(run([...noise, 1e-9, 0, 1], usual)).toEqual([]);
    expect(run([...noise.map(() => 1), 4.9, 1], usual)).toEqual([]);
    expect(run([...noise.map(() => 1), 5, 1], usual)).toEqual([5]);
  });

  it('never become ordinary by coming often', () => {
    const many = Array.from({ length: 500 }, () => 100);
    expect(run([...noise, ...many], usual)).toEqual(many);
  });

  it('are never among those that others are compared with', () => {
    const mixed = noise.flatMap((norm, i) => (i > 10 ? [norm, 50, 60] : [norm]));
    expect(run(mixed, usual)).toHaveLength(2 * 29);
  });

  it('are judged by the norm of the whole gradient where a shard says it', () => {
    const params = model();
    const rejected: Rejection[] = [];
    const shards = [...noise, 1, 1].map((norm, i) => batch(norm, { norm: i === 41 ? 1e4 : 100 }));
    from<TrainingEvent[]>(shards)
      .pipe(momentum(params, { outliers: usual, rejections: { next: (rejection) => rejected.push(rejection) } }))
      .subscribe();
    expect(rejected.map(({ error }) => error.details.got)).toEqual([1e4]);
  });

  it('are judged before a clip, and as merged', () => {
    const params = model();
    from<TrainingEvent[]>([...noise, ...noise, 1e6, 1e6].map((norm) => batch(norm)))
      .pipe(accumulate(2), clipByGlobalNorm(0.1), momentum(params, { outliers: usual }))
      .subscribe();
    expect(params.version).toBe(40);
  });

  it('stop the stream when too many come in a row', () => {
    let failure: unknown;
    from<TrainingEvent[]>([...noise, 1e3, 1e3, 1e3].map((norm) => batch(norm)))
      .pipe(momentum(model(), { outliers: usual, maxRejectionsInARow: 3 }))
      .subscribe({ error: (error: unknown) => (failure = error) });
    expect(isRxgradError(failure) && failure.code).toBe('RXGRAD_TOO_MANY_REJECTIONS');
  });
});

describe('outliers that are warned of', () => {
  it('are applied, published and counted', () => {
    const seen: Observation[] = [];
    const watching = observations().subscribe((observation) => seen.push(observation));
    let tapped: Figures = noFigures;
    const params = model();
    from<TrainingEvent[]>([...noise, 1000, 1].map((norm) => batch(norm)))
      .pipe(
        momentum(params, { outliers: { ...usual, policy: 'warn' } }),
        tapMetrics((figures) => {
          tapped = figures;
        }),
      )
      .subscribe();
    watching.unsubscribe();
    expect(params.version).toBe(42);
    expect(seen.filter(({ kind }) => kind === 'outlier')).toMatchObject([{ at: 'Momentum', norm: 1000, position: null }]);
    expect(seen.reduce(nextFigures, noFigures)).toMatchObject({ outliers: 1, batches: 42 });
    expect(tapped).toMatchObject({ outliers: 1, batches: 42 });
  });

  it('count among the others, so that a lasting change ends the warnings', () => {
    let { outliers } = noFigures;
    from<TrainingEvent[]>([...noise, ...noise.map((norm) => 1000 * norm)].map((norm) => batch(norm)))
      .pipe(
        momentum(model(), { outliers: { ...usual, policy: 'warn' } }),
        tapMetrics((figures) => ({ outliers } = figures)),
      )
      .subscribe();
    expect(outliers).toBeGreaterThan(3);
    expect(outliers).toBeLessThanOrEqual(8);
  });
});

describe('the state of a scan that looks for outliers', () => {
  it('goes on with the same rejections, wherever it is cut', () => {
    const norm = fc.oneof(
      { weight: 5, arbitrary: fc.double({ min: 0.5, max: 2, noNaN: true }) },
      fc.double({ min: 0, max: 1e5, noNaN: true }),
    );
    fc.assert(
      fc.property(fc.array(norm, { minLength: 1, maxLength: 80 }), fc.nat(80), (norms, cut) => {
        const options = { policy: 'reject', window: 12, after: 4, factor: 3 } as const;
        const [whole, first, second] = [model(), model(), model()];
        const expected = run(norms, options, whole);
        const before = run(norms.slice(0, cut), options, first);
        second.loadStateDict(first.stateDict(), { exact: true });
        // Sequences begin above those seen.
        const rejected: number[] = [];
        from<TrainingEvent[]>(norms.slice(cut).map((one) => batch(one)))
          .pipe(
            momentum(second, {
              outliers: options,
              rejections: { next: ({ error }) => rejected.push(Number(error.details.got)) },
            }),
          )
          .subscribe();
        expect([...before, ...rejected]).toEqual(expected);
        expect(bitsOf(second)).toEqual(bitsOf(whole));
      }),
      { numRuns: 60 },
    );
  });

  it('knows the norms before it, so that the first batch behind it is judged', () => {
    const [first, second] = [model(), model()];
    run(noise, usual, first);
    second.loadStateDict(first.stateDict());
    expect(run([1e6], usual, second)).toEqual([1e6]);
    expect(run([1e6], usual)).toEqual([]);
  });

  it('says when other outliers would be rejected, and lets the warnings differ', () => {
    const goOn = (was: OutlierOptions | undefined, is: OutlierOptions | undefined) => {
      const [first, second] = [model(), model()];
      from([batch(1)])
        .pipe(momentum(first, was ? { outliers: was } : {}))
        .subscribe();
      second.loadStateDict(first.stateDict(), { exact: true });
      let message = '';
      from([batch(1)])
        .pipe(momentum(second, is ? { outliers: is } : {}))
        .subscribe({ error: (error: Error) => ({ message } = error) });
      return message;
    };
    expect(goOn(usual, { ...usual, factor: 9 })).toMatch(/outliers was .*"factor":8.* and is .*"factor":9/);
    expect(goOn(undefined, usual)).toMatch(/outliers was undefined, and is/);
    expect(goOn(undefined, { policy: 'warn' })).toBe('');
    expect(goOn({ policy: 'warn' }, { policy: 'off' })).toBe('');
  });
});

describe('the options of outliers', () => {
  it('are plain data of a config, too', () => {
    const params = model();
    const config = JSON.parse(JSON.stringify({ type: 'Momentum', lr: 0.1, outliers: usual })) as { type: 'Momentum' };
    from<TrainingEvent[]>([...noise, 1000].map((norm) => batch(norm)))
      .pipe(optimizer(params, config))
      .subscribe();
    expect(params.version).toBe(40);
  });

  it.each<[object, RegExp]>([
    [{}, /outliers.policy: expected a value, got undefined/],
    [{ policy: 'accept' }, /outliers.policy: expected \("off" \| "warn" \| "reject"\)/],
    [{ policy: 'warn', window: 0 }, /outliers.window: expected >=1/],
    [{ policy: 'warn', factor: 0 }, /outliers.factor: expected >0/],
    [{ policy: 'warn', window: 8 }, /outliers: expected `after` of at most `window`/],
    [{ policy: 'warn', limit: 1 }, /outliers.limit: expected no such option/],
  ])('refuse %o', (outliers, message) => {
    expect(() => momentum(model(), { outliers: outliers as OutlierOptions })).toThrow(message);
  });
});
