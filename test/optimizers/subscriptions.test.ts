import { epochBoundary, gradientBatch, momentum, Parameters, stepLR } from 'rxgrad';
import { NEVER, of, Subject } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { batch, bitsOf, model, scans } from './batches.ts';

const one = gradientBatch({ gradients: { w: Float32Array.of(1) } });

describe('momentum', () => {
  it('starts each subscription with zero velocity and goes on with the weights', () => {
    const params = Parameters.create({ w: { dims: [1] } });
    const weights: number[] = [];
    const updates$ = of(one, one).pipe(momentum(params, { lr: 1, momentum: 0.5 }));
    for (let i = 0; i < 2; i++) updates$.subscribe((update) => weights.push(update.weights.w![0]!));
    expect(weights).toEqual([-1, -2.5, -3.5, -5]);
    expect(params.version).toBe(4);
  });

  it('starts each subscription at the beginning of the schedule', () => {
    const rates: number[] = [];
    const lr = stepLR({ baseLr: 1, stepSize: 1, gamma: 0.5 });
    const updates$ = of(one, epochBoundary(0), one).pipe(momentum(Parameters.create({ w: { dims: [1] } }), { lr }));
    for (let i = 0; i < 2; i++) updates$.subscribe((update) => rates.push(update.lr));
    expect(rates).toEqual([1, 0.5, 1, 0.5]);
    expect(lr.lr).toBe(1);
  });
});

describe.each(scans)('%s', (_, scan) => {
  it('takes the same steps in a second subscription as one over the same weights would', () => {
    const resumed = model();
    const updates$ = of(batch(1), batch(-2)).pipe(scan(resumed));
    updates$.subscribe();
    const copy = model();
    copy.load(Object.fromEntries([...resumed].map(({ name, data }) => [name, data])));
    updates$.subscribe();
    of(batch(1), batch(-2)).pipe(scan(copy)).subscribe();
    expect(bitsOf(resumed)).toEqual(bitsOf(copy));
  });

  it('refuses a second subscription at the same time, and leaves the first alone', () => {
    const params = model();
    const events$ = new Subject<ReturnType<typeof batch>>();
    const versions: number[] = [];
    const first = events$.pipe(scan(params)).subscribe(({ version }) => versions.push(version));
    let refusal: unknown;
    NEVER.pipe(scan(params)).subscribe({
      error: (error) => {
        refusal = error;
      },
    });
    expect(refusal).toMatchObject({ code: 'RXGRAD_PARAMETERS_IN_USE' });
    events$.next(batch());
    expect(versions).toEqual([1]);

    first.unsubscribe();
    of(batch())
      .pipe(scan(params))
      .subscribe(({ version }) => versions.push(version));
    expect(versions).toEqual([1, 2]);
  });

  it('uses the memory of ended subscriptions again', () => {
    const params = Parameters.create({ w: { dims: [5000] } });
    const subscribe = () => NEVER.pipe(scan(params)).subscribe().unsubscribe();
    subscribe();
    const { byteLength } = params.arena.bytes;
    for (let i = 0; i < 1000; i++) subscribe();
    expect(params.arena.bytes.byteLength).toBe(byteLength);
  });
});
