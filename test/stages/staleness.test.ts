import {
  accumulate,
  addDecayedWeights,
  clipByGlobalNorm,
  encodeEvent,
  GradientBatch,
  gradientBatch,
  momentum,
  type StalenessPolicy,
  sgd,
  staleness,
  tapMetrics,
} from 'rxgrad';
import { lastValueFrom, map, of, pipe } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { bitsOf, scans } from '../optimizers/batches.ts';
import { wave } from './gradients.ts';
import { type Batch, type Between, dense, model, train } from './stale.ts';

const f32 = Math.fround;

describe('staleness that drops', () => {
  const policy = { type: 'drop', above: 2 } as const;

  it('rejects what is older than it says, and nothing else', async () => {
    const params = model();
    const bases = [0, 0, undefined, 0, 1, 2, 4, 0];
    const batches = bases.map((base, i) => ({ gradients: dense(i), base, worker: 'w', sequence: i }));
    const rejected = await train(params, sgd, batches, { between: staleness(policy) });
    // At versions 0, 1, 2, 3, 3, 4, 5, 6.
    expect(rejected.map(({ sequence, reason }) => [sequence, reason])).toEqual([
      [3, 'stale'],
      [7, 'stale'],
    ]);
    expect(rejected[0]!.error.message).toBe(
      'gradient batch: expected gradients of weights of version 1 or later (now 3), got those of version 0',
    );
    const others = model();
    await train(others, sgd, [batches[0], batches[1], batches[2], batches[4], batches[5], batches[6]] as Batch[]);
    expect(bitsOf(params)).toEqual(bitsOf(others));
  });

  it.each<[string, Between]>([
    ['a stage for it', staleness(policy)],
    ['another', clipByGlobalNorm(1)],
    ['none', pipe()],
  ])('rejects what comes from the future, through %s', async (_, between) => {
    const params = model();
    const before = bitsOf(params);
    const [rejected] = await train(params, sgd, [{ gradients: dense(0), base: 1 }], { between });
    expect(rejected).toMatchObject({
      reason: 'fromTheFuture',
      error: { message: 'gradient batch: expected gradients of weights up to version 0, got those of version 1' },
    });
    expect(bitsOf(params)).toEqual(before);
  });

  it('rejects what was merged when a part of it comes from the future', async () => {
    const parts = [0, 1, 0, 0, 1, 0].map((base, i) => ({ gradients: dense(i), base }));
    const rejected = await train(model(), sgd, parts, { between: accumulate(2) });
    expect(rejected.map(({ reason }) => reason)).toEqual(['fromTheFuture']);
  });

  it('does not count a dropped batch as seen', async () => {
    const params = model();
    const twice = { gradients: dense(1), worker: 'w', sequence: 1 };
    const batches = [{ gradients: dense(0) }, { ...twice, base: 0 }, { ...twice, base: 1 }];
    const rejected = await train(params, sgd, batches, { between: staleness({ type: 'drop', above: 0 }) });
    expect(rejected.map(({ reason }) => reason)).toEqual(['stale']);
    expect(params.version).toBe(2);
  });

  it('goes on doing so where gradients are read, changed or merged in between', async () => {
    const doubled: Between = map((event) =>
      event instanceof GradientBatch ? event.withGradients({ ...event.gradients, bias: wave(5, 7) }) : event,
    );
    const batches = [0, 0, 0, 3].map((base, i) => ({ gradients: dense(i), base }));
    for (const between of [pipe(staleness(policy), doubled), pipe(staleness(policy), accumulate(1))]) {
      expect(await train(model(), sgd, batches, { between })).toHaveLength(0);
      expect(await train(model(), sgd, [...batches, { gradients: dense(0), base: 1 }], { between })).toHaveLength(1);
    }
    // What was merged is as stale as its oldest part.
    const pairs = [0, 0, 0, 0, 2, 1, 0, 3].map((base, i) => ({ gradients: dense(i), base }));
    const rejected = await train(model(), sgd, pairs, { between: pipe(staleness(policy), accumulate(2)) });
    expect(rejected.map(({ reason }) => reason)).toEqual(['stale']);
  });
});

describe('staleness that scales', () => {
  it.each(scans)('gives %s the gradients divided by 1 + τ, on any number of threads', async (_, scan) => {
    const bases = [0, 0, undefined, 1, 0, 5];
    const batches = bases.map((base, i) => ({ gradients: dense(i), base }));
    const scaled = bases.map((base, i) => {
      const factor = f32(1 / (1 + i - (base ?? i)));
      const gradients = Object.entries(dense(i)).map(([name, values]) => [name, (values as Float32Array).map((g) => g * factor)]);
      return { gradients: Object.fromEntries(gradients) };
    });
    const expected = model();
    await train(expected, scan, scaled, { between: clipByGlobalNorm(0.5) });
    for (const threads of [0, 2]) {
      const params = model();
      await train(params, scan, batches, { between: pipe(staleness({ type: 'scale' }), clipByGlobalNorm(0.5)), threads });
      expect(bitsOf(params)).toEqual(bitsOf(expected));
    }
  });

  it('of rows, too', async () => {
    const rows = { indices: [4, 1], values: Float32Array.of(1, 2, 3, 4, 5, 6) };
    const [params, expected] = [model(), model()];
    const fresh = { gradients: { table: rows } };
    await train(params, momentum, [fresh, { ...fresh, base: 0 }], { between: staleness({ type: 'scale' }) });
    await train(expected, momentum, [fresh, { gradients: { table: { ...rows, values: rows.values.map((g) => g / 2) } } }]);
    expect(bitsOf(params)).toEqual(bitsOf(expected));
  });
});

describe('what staleness changes', () => {
  const batch = gradientBatch({ gradients: { w: Float32Array.of(1) }, base: 0 });
  const behind = async (policy: StalenessPolicy): Promise<GradientBatch> =>
    (await lastValueFrom(of(batch).pipe(staleness(policy)))) as GradientBatch;

  it.each<StalenessPolicy>([{ type: 'scale' }, { type: 'compensate' }])('is known to the scan alone: %o', async (policy) => {
    const late = await behind(policy);
    const error = {
      code: 'RXGRAD_WEIGHTS_NEEDED',
      message: `Gradients behind staleness({ type: '${policy.type}' }) cannot be read before the scan: read them, or merge them, in front of it`,
    };
    expect(() => late.gradients).toThrow(expect.objectContaining(error));
    expect(() => encodeEvent(late)).toThrow(expect.objectContaining(error));
    expect(late.norm()).toBeUndefined();
    await expect(lastValueFrom(of(batch, batch).pipe(staleness(policy), accumulate(2)))).rejects.toMatchObject(error);
    await lastValueFrom(
      of(batch).pipe(
        staleness(policy),
        tapMetrics(() => {}),
      ),
    );
  });

  it('is nothing where it drops', async () => {
    expect((await behind({ type: 'drop', above: 0 })).gradients.w).toEqual(Float32Array.of(1));
  });

  it.each<[unknown, RegExp]>([
    [undefined, /staleness: expected/],
    [{ type: 'ignore' }, /staleness: type: expected \("drop" \| "scale" \| "compensate"\), got "ignore"/],
    [{ type: 'drop' }, /staleness: above: expected a value, got undefined/],
    [{ type: 'drop', above: -1 }, /staleness: above: expected >=0, got -1/],
    [{ type: 'drop', above: 1.5 }, /staleness: above: expected a whole number, got 1.5/],
    [{ type: 'scale', above: 3 }, /staleness: above: expected no such option, got "above"/],
    [{ type: 'compensate', lambda: 0 }, /staleness: lambda: expected >0, got 0/],
    [{ type: 'compensate', versions: 0 }, /staleness: versions: expected >=1, got 0/],
    [{ type: 'compensate', decay: 1 }, /staleness: decay: expected <1, got 1/],
  ])('refuses %o', (policy, message) => {
    expect(() => staleness(policy as StalenessPolicy)).toThrow(message);
  });

  it('compensates once at most', async () => {
    const twice = pipe(staleness({ type: 'compensate' }), staleness({ type: 'compensate' }));
    await expect(train(model(), sgd, [{ gradients: dense(0) }], { between: twice })).rejects.toMatchObject({
      code: 'RXGRAD_INVALID_OPTION',
    });
  });
});

describe('gradients behind decay', () => {
  it('are not read while a step on other threads is under way: they would have other bits', async () => {
    const params = model();
    const read: Between = map((event) => (event instanceof GradientBatch ? event.withGradients(event.gradients) : event));
    const between = pipe(addDecayedWeights(0.1, params), read);
    const batches = [{ gradients: dense(0) }, { gradients: dense(1) }];
    await expect(train(params, sgd, batches, { between, threads: 1 })).rejects.toMatchObject({
      code: 'RXGRAD_STEP_UNDER_WAY',
      message:
        'Expected gradients behind addDecayedWeights(0.1) to be read between two steps, but one is under way, or waits: leave them to the scan, or let it step in place (threads: 0)',
    });
  });
});
