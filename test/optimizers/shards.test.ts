import {
  accumulate,
  adam,
  addDecayedWeights,
  clipByGlobalNorm,
  clipByValue,
  type GradientBatch,
  gradientBatch,
  Parameters,
  type Rejection,
  sgd,
  shardGradients,
  shardParameters,
  shardPlan,
  staleness,
  type TrainingEvent,
} from 'rxgrad';
import { from, identity, lastValueFrom, map, type OperatorFunction, pipe, toArray } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { encodeTensors } from '../../src/sources/encode-tensors.ts';
import { batch, bitsOf, model, scans } from './batches.ts';

type Stage = OperatorFunction<TrainingEvent, TrainingEvent>;

const whole = { emb: { dims: [10, 2] }, bias: { dims: [3] } };
const plan = shardPlan(whole, { shards: 2 });
const shard = (index = 1): Parameters => shardParameters(plan, index, Parameters.create(whole));
const own = Float32Array.from({ length: 12 }, (_, i) => i + 1);
const part = (facts: object = {}): GradientBatch => gradientBatch({ gradients: { 'emb[4:10]': own }, ...facts });
const normOfPart = part().norm()!;

async function play(params: Parameters, events: readonly TrainingEvent[], { between = identity as Stage, threads = 0 } = {}) {
  const rejections: Rejection[] = [];
  const updates = await lastValueFrom(
    from(events).pipe(
      between,
      adam(params, { lr: 0.1, threads, rejections: { next: (rejected) => rejections.push(rejected) } }),
      map(({ facts }) => facts),
      toArray(),
    ),
  );
  return { updates, reasons: rejections.map(({ reason }) => reason), rejections };
}

describe('a norm that the producer tells', () => {
  const before: [string, Stage][] = [
    ['nothing', identity],
    ['what drops', staleness({ type: 'drop', above: 9 })],
  ];
  const behind: [string, Stage][] = [
    ['nothing', identity],
    ['what fuses', clipByValue(0.6)],
    ['what does not fuse', pipe(addDecayedWeights(0.1), clipByValue(0.6))],
  ];
  it.each(before.flatMap(([a, first]) => behind.map(([b, last]) => [a, b, first, last] as const)))(
    'is what clipping goes by, behind %s and in front of %s, in place and on threads',
    async (_, __, first, last) => {
      const [told, scaled] = [model(), model()];
      const values = [1, -2, 3];
      const norms = values.map((value) => 4 * batch(value).norm()!);
      const between = pipe(first, clipByGlobalNorm({ b: 0.5, '*': 2 }), last);
      const { updates } = await play(
        told,
        values.map((value, i) => batch(value, { norm: norms[i]! })),
        { between },
      );
      expect(updates.map(({ gradientNorm, clipped }) => [gradientNorm, clipped])).toEqual(norms.map((norm) => [norm, true]));
      const byHand = values.map((value, i) => {
        const { a, b, c } = batch(value).gradients;
        const by = (limit: number) => (g: number) => Math.fround(g * Math.fround(limit / norms[i]!));
        return gradientBatch({ gradients: { a: a!.map(by(2)), b: b!.map(by(0.5)), c: c!.map(by(2)) } });
      });
      await play(scaled, byHand, { between: last });
      expect(bitsOf(told)).toEqual(bitsOf(scaled));

      const onThreads = model();
      await play(
        onThreads,
        values.map((value, i) => batch(value, { norm: norms[i]! })),
        { between, threads: 1 },
      );
      expect(bitsOf(onThreads)).toEqual(bitsOf(told));
    },
  );

  it('is what clipping goes by where gradients are read', async () => {
    const [clipped] = await lastValueFrom(from([part({ norm: 100 })]).pipe(clipByGlobalNorm(10), toArray()));
    expect((clipped as GradientBatch).gradients['emb[4:10]']).toEqual(own.map((g) => Math.fround(g * Math.fround(0.1))));
  });

  it('is forgotten where a map changes the gradients', () => {
    expect(part({ norm: 100, loss: 1 }).withGradients({ 'emb[4:10]': own }).facts).toEqual({ loss: 1 });
  });

  it.each([
    ['too small', normOfPart * (1 - 3e-4)],
    ['far too small', 1e-30],
    ['0', 0],
    ['negative', -normOfPart],
    ['NaN', Number.NaN],
    ['infinite', Number.POSITIVE_INFINITY],
  ])('is refused where it is %s, and changes nothing', async (_, norm) => {
    const [disturbed, calm] = [shard(), shard()];
    const honest = part({ norm: 50 });
    const { rejections } = await play(disturbed, [honest, part({ norm }), honest], { between: clipByGlobalNorm(1) });
    await play(calm, [honest, honest], { between: clipByGlobalNorm(1) });
    expect(bitsOf(disturbed)).toEqual(bitsOf(calm));
    expect(rejections.map(({ reason }) => reason)).toEqual(['wrongNorm']);
    expect(rejections[0]!.error.message).toBe(
      `gradient batch: expected a finite number of at least ${normOfPart} (that of the tensors here) as the norm of the whole gradient, got ${norm}`,
    );
    expect((await play(shard(), [part({ norm }), honest], { between: accumulate(2) })).reasons).toEqual(['wrongNorm']);
  });

  it.each(['F16', 'BF16', 'I8'] as const)('may be that of gradients before they were written as %s', async (dtype) => {
    const values = Float32Array.from({ length: 12 }, (_, i) => (i === 0 ? 127 : 0.5000001));
    const norm = gradientBatch({ gradients: { w: values } }).norm()!;
    const { message } = gradientBatch({ gradients: { 'emb[4:10]': values }, norm });
    const encoded = encodeTensors(message.layout, { elements: values, rows: [null] }, dtype);
    const written = Object.assign(gradientBatch({ gradients: {} }), { message: { ...message, ...encoded } });
    expect((await play(shard(), [written])).reasons).toEqual([]);
  });

  it('is not needed where parameters are the whole model', async () => {
    expect((await play(model(), [batch(1)], { between: clipByGlobalNorm(1) })).updates[0]!.gradientNorm).toBe(batch(1).norm());
  });

  it('is needed where they are a shard', async () => {
    const { reasons, rejections } = await play(shard(), [part(), part({ norm: 50 })]);
    expect(reasons).toEqual(['wrongNorm']);
    expect(rejections[0]!.error.message).toBe('gradient batch: expected a number as the norm of the whole gradient, got none');
  });
});

describe('a batch without tensors', () => {
  const nothing = (facts: object = {}): GradientBatch => gradientBatch({ gradients: {}, ...facts });

  it.each([
    ['nothing', identity, 1],
    ['stages', pipe(clipByGlobalNorm(1), clipByValue(1), addDecayedWeights(0.1)), 1],
    ['late gradients', pipe(staleness({ type: 'drop', above: 9 }), staleness({ type: 'compensate', adaptive: true })), 1],
    ['what merges', accumulate(2), 2],
  ] satisfies [string, Stage, number][])('is a step over nothing where it has a norm, behind %s', async (_, between, each) => {
    const parts = [part({ norm: 50 }), part({ norm: 60 })];
    const empty = [1, 2, 3, 4].map((norm) => nothing({ norm }));
    const [disturbed, calm] = [shard(), shard()];
    const { updates } = await play(disturbed, [...parts, ...empty, ...parts], { between });
    await play(calm, [...parts, ...parts], { between });
    expect(updates.map(({ version }) => version)).toEqual(each === 1 ? [1, 2, 3, 4, 5, 6, 7, 8] : [1, 2, 3, 4]);
    if (each === 1) expect(updates.map(({ gradientNorm }) => gradientNorm)).toEqual([50, 60, 1, 2, 3, 4, 50, 60]);
    expect(bitsOf(disturbed)).toEqual(bitsOf(calm));
    expect(countsOf(disturbed)).toEqual(countsOf(calm));
  });

  it('moves schedules that go by step', async () => {
    const params = shard();
    const lr = { type: 'StepLR', baseLr: 1, stepSize: 1, gamma: 0.5 } as const;
    const updates = await lastValueFrom(
      from([nothing({ norm: 1 }), nothing({ norm: 1 })]).pipe(sgd(params, { lr, tickOn: 'step' }), toArray()),
    );
    expect(updates.map(({ lr }) => lr)).toEqual([1, 0.5]);
  });

  it('goes on beside readers and on threads', async () => {
    for (const threads of [0, 1]) {
      const params = shard();
      const reader = params.reader();
      const { updates } = await play(params, [part({ norm: 50 }), nothing({ norm: 5 }), part({ norm: 50 })], { threads });
      const expected = shard();
      await play(expected, [part({ norm: 50 }), nothing({ norm: 5 }), part({ norm: 50 })]);
      reader.close();
      expect(updates.map(({ version }) => version)).toEqual([1, 2, 3]);
      expect(bitsOf(params)).toEqual(bitsOf(expected));
    }
  });

  it('is refused where it has none', async () => {
    expect((await play(shard(), [nothing(), part({ norm: 50 })])).reasons).toEqual(['emptyBatch']);
  });
});

/** How often each parameter was stepped, as a state dict says. */
function countsOf(params: Parameters): number[] {
  const text = Buffer.from(params.stateDict()).toString('latin1');
  return JSON.parse(/\\"counts\\":(\[[\d,]*\])/.exec(text)![1]!);
}

describe('a norm that no shard can know', () => {
  const later: [string, Stage, string][] = [
    ['clipping by value', clipByValue(1), 'behind what changes them'],
    ['decay', addDecayedWeights(0.1), 'behind what changes them'],
    ['scaling', staleness({ type: 'scale' }), 'behind what changes them'],
    ['compensation', staleness({ type: 'compensate' }), 'behind what changes them'],
    ['another clip', clipByGlobalNorm(1), 'behind what changes them'],
    ['what merges', accumulate(2), 'behind accumulate'],
  ];
  it.each(later)('ends the stream of a shard, behind %s', async (_, stage, got) => {
    const between = pipe(stage, clipByGlobalNorm(1), clipByValue(1));
    await expect(play(shard(), [part({ norm: 50 }), part({ norm: 50 })], { between })).rejects.toThrow(
      `clipByGlobalNorm: expected it in front of all that changes or merges gradients, where parameters are a shard, got it ${got}`,
    );
  });

  it.each(later)('is taken where parameters are the whole model, behind %s', async (_, stage) => {
    const between = pipe(stage, clipByGlobalNorm(1), clipByValue(1));
    const [told, silent] = [model(), model()];
    await play(told, [batch(1, { norm: batch(1).norm() }), batch(2, { norm: batch(2).norm() })], { between });
    await play(silent, [batch(1), batch(2)], { between });
    expect(bitsOf(told)).toEqual(bitsOf(silent));
  });

  it.each([
    ['read', map((event: TrainingEvent) => (event as GradientBatch).withGradients((event as GradientBatch).gradients))],
    ['merged', accumulate(2)],
  ] satisfies [string, Stage][])('leaves a shard without one where what was merged is clipped, then %s', async (_, stage) => {
    const between = pipe(accumulate(2), clipByGlobalNorm(1), stage);
    const { reasons, updates } = await play(shard(), Array(4).fill(part({ norm: 50 })), { between });
    expect([new Set(reasons), updates]).toEqual([new Set(['wrongNorm']), []]);
  });

  it('is not taken before the scan', async () => {
    const between = pipe(clipByValue(1), clipByGlobalNorm(1));
    const [event] = await lastValueFrom(from([part({ norm: 50 })]).pipe(between, toArray()));
    expect((event as GradientBatch).norm()).toBeUndefined();
    expect(() => (event as GradientBatch).gradients).toThrow(/^Gradients behind clipByGlobalNorm cannot be read before the scan/);
  });
});

describe('rows of a parameter', () => {
  const needsWhole = ['Lamb', 'Lars', 'Fromage', 'Novograd', 'SM3', 'Adafactor'];

  it.each(scans)('are stepped by %s, or refused', (name, scan) => {
    const rule = needsWhole.find((rule) => name.startsWith(rule));
    if (!rule) expect(() => scan(shard())).not.toThrow();
    else {
      expect(() => scan(shard())).toThrow(
        `${rule}: expected whole parameters, since it does not go element by element (shardPlan with cut: false), got some rows of one, "emb[4:10]"`,
      );
    }
    const uncut = shardPlan(whole, { shards: 2, cut: false });
    for (const index of [0, 1]) expect(() => scan(shardParameters(uncut, index, Parameters.create(whole)))).not.toThrow();
  });

  it('follow settings and groups by the name of their parameter', () => {
    const groups = [
      { params: 'bias', lr: 1 },
      { params: 'em*', frozen: true },
    ];
    for (const index of [0, 1]) expect(() => sgd(shard(index), { groups })).not.toThrow();
    expect(() => sgd(shard(1), { groups: [{ params: 'emb[*', frozen: true }] })).toThrow(
      'groups.0.params: expected a name or pattern that matches a parameter (emb, bias), got "emb[*"',
    );
  });

  it('are frozen with it', async () => {
    const params = shard();
    const before = bitsOf(params);
    await lastValueFrom(from([part({ norm: 50 })]).pipe(sgd(params, { groups: [{ params: 'emb', frozen: true }] }), toArray()));
    expect(bitsOf(params)).toEqual(before);
  });

  it('of which a batch has none count the step all the same', async () => {
    const sparse = gradientBatch({ gradients: { emb: { indices: [0], values: Float32Array.of(1, 2) } } });
    const params = shard();
    await play(params, [shardGradients(sparse, plan)[1]!]);
    expect(countsOf(params)).toEqual([1]);
  });
});
