import fc from 'fast-check';
import {
  addDecayedWeights,
  clipByGlobalNorm,
  clipByValue,
  type GradientBatch,
  gradientBatch,
  hotSwap,
  momentum,
  Parameters,
  type Rejection,
  sgd,
  staleness,
  type TrainingEvent,
} from 'rxgrad';
import { from, identity, lastValueFrom, map, pipe, toArray } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { wave } from '../stages/gradients.ts';
import { type Batch, type Between, dense, model, ROWS, train, WIDTH } from '../stages/stale.ts';
import { bitsOf, type Scan, scans } from './batches.ts';

const f32 = Math.fround;

const settings: [string, Between, Between][] = [
  ['alone', identity, identity],
  ['behind clipping', clipByGlobalNorm(0.5), identity],
  ['before clip and decay', identity, pipe(clipByGlobalNorm(0.5), clipByValue(0.2), addDecayedWeights(0.01))],
];

/** What the stage makes of a gradient, in float32 as the kernels do it; adapts `means`, where there are any. */
function compensated(g: number, now: number, then: number, lambda: number, means: Float32Array | null, at: number): number {
  const square = f32(g * g);
  let strength = f32(lambda);
  if (means) {
    means[at] = f32(f32(f32(0.95) * means[at]!) + f32(f32(1 - 0.95) * square));
    strength = f32(strength / f32(Math.sqrt(f32(means[at]! + f32(1e-7)))));
  }
  return f32(g + f32(square * f32(strength * f32(now - then))));
}

/** Steps as the stage does, by a scan without it that is given what the stage makes of the gradients. */
async function reference(scan: Scan, batches: readonly Batch[], lambda: number, adaptive: boolean, between: Between) {
  const params = model();
  const means = new Map([...params].map(({ name, length }) => [name, adaptive ? new Float32Array(length) : null]));
  const copy = () => new Map([...params].map(({ name, data }) => [name, data.slice()]));
  const history = [copy()];
  const made: Batch[] = batches.map(({ gradients, base }, version) => ({
    get gradients() {
      const [now, then] = [history[version]!, history[base ?? version]!];
      return Object.fromEntries(
        Object.entries(gradients).map(([name, input]) => {
          const values = input instanceof Float32Array ? input : 'indices' in input ? input.values : input.data;
          const rows = 'indices' in input ? [...input.indices] : null;
          const made = values.map((g, i) => {
            const at = rows ? rows[Math.floor(i / WIDTH)]! * WIDTH + (i % WIDTH) : i;
            return compensated(g, now.get(name)![at]!, then.get(name)![at]!, lambda, means.get(name)!, at);
          });
          return [name, 'indices' in input ? { ...input, values: made } : made];
        }),
      );
    },
  }));
  const events$ = from(made).pipe(map((batch) => gradientBatch({ gradients: batch.gradients }) as TrainingEvent));
  await lastValueFrom(
    events$.pipe(
      between,
      scan(params, { lr: 0.1, threads: 0 }),
      map(() => history.push(copy())),
      toArray(),
    ),
  );
  return params;
}

describe('staleness that compensates', () => {
  const rowsOf = (indices: readonly number[], step: number) => ({ indices, values: wave(WIDTH * indices.length, step) });
  const step = fc.record({
    kind: fc.constantFrom('rows', 'rows', 'dense', 'bias'),
    rows: fc.uniqueArray(fc.nat(ROWS - 1), { maxLength: 4 }),
    staleness: fc.nat(5),
  });
  const plan = fc.array(step, { minLength: 1, maxLength: 9 });
  const batchesOf = (steps: readonly { kind: string; rows: readonly number[]; staleness: number }[]): Batch[] =>
    steps.map(({ kind, rows, staleness }, i) => {
      const table = kind === 'bias' ? {} : { table: kind === 'rows' ? rowsOf(rows, i) : wave(ROWS * WIDTH, i) };
      return { gradients: { bias: wave(5, 3 * i), ...table }, base: Math.max(0, i - staleness) };
    });
  const kinds: [string, Scan][] = [
    ['Momentum', momentum],
    ['Adam', scans.find(([name]) => name === 'Adam {}')![1]],
    ['Lamb, which takes rows for a dense gradient', scans.find(([name]) => name.startsWith('Lamb'))![1]],
  ];

  describe.each(kinds)('%s', (_, scan) => {
    it.each(settings)('adds λ g² (θ − θ′) with the weights that each gradient was made from: %s', async (_, before, behind) => {
      await fc.assert(
        fc.asyncProperty(plan, fc.boolean(), async (steps, adaptive) => {
          const batches = batchesOf(steps);
          const policy = { type: 'compensate', lambda: 0.7, adaptive } as const;
          const params = model();
          const rejected = await train(params, scan, batches, { between: pipe(before, staleness(policy), behind) });
          expect(rejected).toEqual([]);
          // What is done before the compensation is done to what the reference is given, too: it does nothing twice.
          const clipped = before === identity ? batches : await clippedBy(before, batches);
          const expected = await reference(scan, clipped, 0.7, adaptive, behind);
          expect(bitsOf(params)).toEqual(bitsOf(expected));
        }),
        { numRuns: 40 },
      );
    });
  });

  async function clippedBy(before: Between, batches: readonly Batch[]): Promise<Batch[]> {
    const events$ = from(batches.map((batch) => gradientBatch(batch) as TrainingEvent)).pipe(before, toArray());
    return (await lastValueFrom(events$)).map((event) => {
      const { gradients, rows, facts } = event as GradientBatch;
      return { gradients: { ...gradients, ...rows }, base: facts.base };
    });
  }

  const policy = { type: 'compensate', lambda: 2, versions: 3 } as const;
  const late = [0, 0, 0, 0, 2, 2].map((base, i) => ({ gradients: dense(i), base }));

  it('gives the same bits beside readers, and on any number of threads', async () => {
    const expected = model();
    await train(expected, momentum, late, { between: staleness(policy) });
    for (const threads of [0, 1, 2]) {
      const params = model();
      const reader = params.reader();
      const between = staleness({ ...policy });
      const swapping: Scan = (of, options) => pipe(momentum(of, options), hotSwap({ params: of, swap: () => of.swap() }));
      await train(params, swapping, late, { between, threads });
      expect(bitsOf(params)).toEqual(bitsOf(expected));
      reader.close();
    }
  });

  it('rejects what is older than the versions that it keeps', async () => {
    const batches = [0, 0, 0, 0, 0, 1, 2].map((base, i) => ({ gradients: dense(i), base }));
    const rejected = await train(model(), sgd, batches, { between: staleness(policy) });
    expect(rejected.map(({ error }) => error.message)).toEqual([
      'gradient batch: expected gradients of weights of version 1 or later (now 4), got those of version 0',
    ]);
  });

  it('knows no weights from before it began, or from before others were loaded', async () => {
    const params = model();
    await train(params, sgd, [{ gradients: dense(0) }, { gradients: dense(1) }]);
    expect(await train(params, sgd, [{ gradients: dense(2), base: 1 }], { between: staleness(policy) })).toHaveLength(1);

    const reasons: string[] = [];
    const batches = [2, 2, 2, 3].map((base, i) => gradientBatch({ gradients: dense(i), base, sequence: i }));
    const options = { rejections: { next: ({ reason, sequence }: Rejection) => reasons.push(`${sequence} ${reason}`) } };
    from<TrainingEvent[]>(batches)
      .pipe(staleness(policy), sgd(params, options))
      .subscribe(({ version }) => version === 3 && params.load({ bias: wave(5, 9) }));
    expect(reasons).toEqual(['1 stale', '2 stale', '3 stale']);
  });

  it.each([false, true])('goes on from a state dict with the same bits (adaptive %s)', async (adaptive) => {
    const rows = { table: rowsOf([3, 7], 5) };
    const batches = [
      ...late,
      { gradients: { ...dense(6), ...rows }, base: 4 },
      { gradients: rows, base: 5 },
      { gradients: dense(8), base: 5 },
    ];
    const between = staleness({ ...policy, adaptive });
    const whole = model();
    await train(whole, momentum, batches, { between });
    for (let cut = 1; cut < batches.length; cut++) {
      const [first, second] = [model(), model()];
      await train(first, momentum, batches.slice(0, cut), { between });
      second.loadStateDict(first.stateDict());
      expect(await train(second, momentum, batches.slice(cut), { between })).toEqual([]);
      expect(bitsOf(second)).toEqual(bitsOf(whole));
      expect(second.stateDict()).toEqual(whole.stateDict());
    }
  });

  it('makes nothing of a gradient that is not finite, however large it is', async () => {
    const params = model();
    const huge = { gradients: { bias: Float32Array.of(3e38, -3e38, 1e25, -1e20, 1) }, base: 0 };
    const between = (adaptive: boolean) => pipe(staleness({ ...policy, adaptive }), clipByGlobalNorm(1));
    for (const adaptive of [false, true]) {
      const first = { gradients: { bias: wave(5) } };
      await train(params, momentum, [first, { ...huge, base: params.version }, { ...huge, base: params.version + 1 }], {
        between: between(adaptive),
      });
      for (const { data } of params) expect([...data].every(Number.isFinite)).toBe(true);
    }
  });

  it('takes less from a stale gradient than it would do, where it points past the minimum', async () => {
    // f(w) = w² / 2 from 3 on, with a delay of 2: the gradient of w₀ meets w₂.
    const last = async (between: Between): Promise<number> => {
      const params = Parameters.create({ w: { dims: [1], data: [3] } });
      const seen = [3];
      const batches$ = from([0, 1, 2, 3, 4, 5, 6, 7]).pipe(
        map((i): TrainingEvent => {
          const base = Math.max(0, i - 2);
          return gradientBatch({ gradients: { w: Float32Array.of(seen[base]!) }, base });
        }),
      );
      await lastValueFrom(
        batches$.pipe(
          between,
          sgd(params, { lr: 0.4 }),
          map(({ weights }) => seen.push(weights.w![0]!)),
        ),
      );
      return Math.max(...seen.slice(1).map((w) => -w));
    };
    expect(await last(staleness({ type: 'compensate', lambda: 0.3 }))).toBeLessThan(0.7 * (await last(identity)));
  });
});
