import fc from 'fast-check';
import { type GradientBatch, gradientBatch, Parameters } from 'rxgrad';
import { from, Subject } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { batch, bitsOf, model, type Scan, scans } from './batches.ts';

const partial = fc.record({
  names: fc.subarray(['a', 'b', 'c'], { minLength: 1 }),
  value: fc.float({ min: -2, max: 2, noNaN: true }),
  swap: fc.boolean(),
});

function play(params: Parameters, scan: Scan, batches: readonly GradientBatch[]): Parameters {
  from(batches)
    .pipe(scan(params, { lr: 0.1 }))
    .subscribe();
  return params;
}

function dataOf(params: Parameters, name: string): Float32Array {
  return params.get(name).data.slice();
}

describe.each(scans)('%s over batches of some parameters', (_, scan) => {
  it('steps those alone: each parameter ends as if it were trained apart', () => {
    fc.assert(
      fc.property(fc.array(partial, { maxLength: 12 }), (steps) => {
        const together = play(
          model(),
          scan,
          steps.map(({ names, value }) => batch(value, {}, names)),
        );
        for (const { name, dims, data } of model()) {
          const own = steps.filter(({ names }) => names.includes(name)).map(({ value }) => batch(value, {}, [name]));
          const apart = play(Parameters.create({ [name]: { dims, data } }), scan, own);
          expect(dataOf(together, name)).toEqual(dataOf(apart, name));
        }
        expect(together.version).toBe(steps.length);
      }),
    );
  });

  it('gives equal bits in place and beside, whenever readers come to see the result', (t) => {
    fc.assert(
      fc.property(fc.array(partial, { maxLength: 12 }), (steps) => {
        const inPlace = model();
        const beside = model();
        const reader = beside.reader();
        t.onTestFinished(() => reader.close());
        const [one$, other$] = [new Subject<GradientBatch>(), new Subject<GradientBatch>()];
        const subscriptions = [one$.pipe(scan(inPlace)).subscribe(), other$.pipe(scan(beside)).subscribe()];
        for (const { names, value, swap } of steps) {
          one$.next(batch(value, {}, names));
          other$.next(batch(value, {}, names));
          if (swap) {
            beside.swap();
            reader.read((weights, version) => {
              expect(version).toBe(inPlace.version);
              expect(weights.a).toEqual(dataOf(inPlace, 'a'));
            });
          }
          expect(bitsOf(beside)).toEqual(bitsOf(inPlace));
        }
        for (const subscription of subscriptions) subscription.unsubscribe();
      }),
    );
  });

  it('steps beside on rows of many cache lines too', (t) => {
    const specs = { a: { dims: [1001] }, b: { dims: [3] }, c: { dims: [40_000] } };
    const [inPlace, beside] = [Parameters.create(specs), Parameters.create(specs)];
    const reader = beside.reader();
    t.onTestFinished(() => reader.close());
    const batches = [['a'], ['c'], ['a', 'b'], ['b', 'c'], ['a']].map((names, step) =>
      gradientBatch({
        gradients: Object.fromEntries(
          names.map((name) => [name, Float32Array.from(inPlace.get(name).data, (_, i) => Math.sin(i + step))]),
        ),
      }),
    );
    play(inPlace, scan, batches);
    from(batches)
      .pipe(scan(beside, { lr: 0.1 }))
      .subscribe(() => beside.swap());
    expect(bitsOf(beside)).toEqual(bitsOf(inPlace));
  });
});
