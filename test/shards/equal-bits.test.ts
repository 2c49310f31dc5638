import fc from 'fast-check';
import {
  accumulate,
  addDecayedWeights,
  clipByGlobalNorm,
  clipByValue,
  encodeEvent,
  epochBoundary,
  GradientBatch,
  type GradientInput,
  gradientBatch,
  joinShards,
  Parameters,
  type Rejection,
  type ScanOptions,
  type ShardPlan,
  shardGradients,
  shardParameters,
  shardPlan,
  staleness,
  type TrainingEvent,
  type Weights,
} from 'rxgrad';
import { from, lastValueFrom, map, type OperatorFunction, toArray } from 'rxjs';
import { expect, it } from 'vitest';
import { EventDecoder } from '../../src/sources/codec.ts';
import { type Scan, scans } from '../optimizers/batches.ts';
import { wave } from '../stages/gradients.ts';

type Stage = OperatorFunction<TrainingEvent, TrainingEvent>;

const needsWhole = /^(Lars|Lamb|Fromage|Novograd|SM3|Adafactor)/;
const sizeOf = (dims: readonly number[]): number => dims.reduce((size, dim) => size * dim, 1);

const dims = fc.oneof(
  { weight: 1, arbitrary: fc.constant([]) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 40 }).map((rows) => [rows]) },
  { weight: 4, arbitrary: fc.tuple(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 6 })) },
  { weight: 1, arbitrary: fc.tuple(fc.integer({ min: 1, max: 9 }), fc.nat(3), fc.integer({ min: 1, max: 3 })) },
);
const shapes = fc.array(dims, { minLength: 2, maxLength: 8 });
const how = fc.constantFrom('none', 'none', 'dense', 'rows', 'no rows');
const events = fc.array(
  fc.record({
    kind: fc.constantFrom('batch', 'batch', 'batch', 'batch', 'batch', 'batch', 'epoch', 'nan', 'twice'),
    how: fc.array(how, { minLength: 8, maxLength: 8 }),
    rows: fc.array(fc.nat(), { minLength: 1, maxLength: 7 }),
    size: fc.integer({ min: 1, max: 9 }),
    staleness: fc.nat(3),
    dtype: fc.constantFrom('F32', 'F16', 'BF16', 'I8'),
    tellsNorm: fc.boolean(),
  }),
  { minLength: 1, maxLength: 12 },
);

const stages: Record<string, () => Stage> = {
  value: () => clipByValue({ p1: 0.3, '*': 0.6 }),
  decay: () => addDecayedWeights({ p0: 0.1, '*': 0.01 }),
  scale: () => staleness({ type: 'scale' }),
  compensate: () => staleness({ type: 'compensate', lambda: 0.5, adaptive: true, versions: 2 }),
};
const settings = fc.record({
  drop: fc.boolean(),
  clip: fc.constantFrom(null, 1, { p0: 0.5, '*': 2 }),
  merged: fc.constantFrom(1, 1, 2, 3),
  chain: fc.uniqueArray(fc.constantFrom(...Object.keys(stages)), { maxLength: 4 }),
  lr: fc.constantFrom<NonNullable<ScanOptions['lr']>>(0.05, { type: 'StepLR', baseLr: 0.1, stepSize: 1, gamma: 0.5 }),
  tickOn: fc.constantFrom('epoch' as const, 'step' as const),
  groups: fc.constantFrom([], [{ params: 'p1', frozen: true }], [{ params: ['p0', 'p1'], lr: 0.2 }]),
  average: fc.constantFrom(null, {}, { decay: { p0: 0, '*': 0.7 } }, { decay: 0.5, after: 2 }),
  threads: fc.constantFrom(0, 0, 0, 0, 1),
});
type Settings = typeof settings extends fc.Arbitrary<infer T> ? T : never;
type Events = typeof events extends fc.Arbitrary<infer T> ? T : never;

/** Events of the whole model as a log would hold them. Of a parameter, what is merged is all dense or all rows. */
function eventsOf(all: Events, shapes: readonly (readonly number[])[], merges: boolean): TrainingEvent[] {
  return all.map(({ kind, how, rows, size, staleness, dtype, tellsNorm }, i) => {
    if (kind === 'epoch') return { ...epochBoundary(i), delivery: deliveryOf(i) };
    const gradients: Record<string, GradientInput> = {};
    for (const [p, dims] of shapes.entries()) {
      const kind = how[p] !== 'none' && merges ? (p % 2 === 0 ? 'dense' : 'rows') : how[p];
      if (kind === 'none') continue;
      const [count = 0, ...tail] = dims;
      if (dims.length === 0 || kind === 'dense') gradients[`p${p}`] = { dims, data: wave(sizeOf(dims), i + p) };
      else {
        const indices = kind === 'rows' ? rows.map((row) => row % count) : [];
        gradients[`p${p}`] = { indices, values: wave(indices.length * sizeOf(tail), i + p), dims: [indices.length, ...tail] };
      }
    }
    if (kind === 'nan') gradients.p0 = { dims: shapes[0]!, data: wave(sizeOf(shapes[0]!)).fill(Number.NaN, 0, 1) };
    if (Object.keys(gradients).length === 0) gradients.p0 = { dims: shapes[0]!, data: wave(sizeOf(shapes[0]!), i) };
    const sequence = kind === 'twice' ? 0 : i + 1;
    const facts = { worker: 'w', sequence, batchSize: size, base: Math.max(0, i - 4 - staleness) };
    const encoded = encodeEvent(gradientBatch({ gradients, ...facts }), { dtype: kind === 'nan' ? 'F32' : (dtype as 'F32') });
    const batch = decoded(encoded, i);
    return tellsNorm && kind !== 'nan' ? withNorm(batch, Math.fround(batch.norm()!)) : batch;
  });
}

function deliveryOf(offset: number) {
  return { position: { topic: 't', partition: 0, offset }, source: { done: () => {} } };
}

function decoded({ value, headers }: ReturnType<typeof encodeEvent>, offset: number): GradientBatch {
  const record = { value, headers: headers!, key: null, offset, timestampMs: 0 };
  return new EventDecoder().decode(record, deliveryOf(offset)) as GradientBatch;
}

function withNorm({ message, pending }: GradientBatch, norm: number): GradientBatch {
  return new GradientBatch({ ...message, facts: { ...message.facts, norm } }, pending);
}

/** One shard's events: cut, and where asked over the wire. */
function shardOf(events: readonly TrainingEvent[], plan: ShardPlan, shard: number, wire: boolean): TrainingEvent[] {
  return events.map((event, i) => {
    if (!(event instanceof GradientBatch)) return event;
    const part = shardGradients(event, plan)[shard]!;
    return wire ? decoded(encodeEvent(part), i) : new GradientBatch({ ...part.message, delivery: event.delivery }, null);
  });
}

interface Step {
  readonly weights: Weights;
  readonly average: Weights | undefined;
  readonly facts: object;
}

async function run(events: readonly TrainingEvent[], into: Parameters, scan: Scan, settings: Settings) {
  const { drop, clip, merged, chain, average, ...options } = settings;
  const params = average ? into.twin() : into;
  const rejected: (number | undefined)[] = [];
  const between = [
    ...(drop && merged === 1 ? [staleness({ type: 'drop', above: 3 })] : []),
    ...(clip ? [clipByGlobalNorm(clip as number)] : []),
    ...(merged > 1 ? [accumulate(merged)] : []),
    ...chain.map((name) => stages[name]!()),
  ];
  const steps = await lastValueFrom(
    between
      .reduce((events$, stage) => events$.pipe(stage), from(events))
      .pipe(
        scan(params, {
          ...options,
          ...(average ? { average: { into, ...average } } : {}),
          rejections: { next: ({ position }: Rejection) => rejected.push(position?.offset) },
        } as ScanOptions),
        map(({ version, step, epoch, lr, gradientNorm, staleness, weights, average }): Step => {
          const norm = merged === 1 ? gradientNorm : null;
          return {
            weights: copied(weights),
            average: average ? copied(average.latest) : undefined,
            facts: { version, step, epoch, lr, norm, staleness },
          };
        }),
        toArray(),
      ),
  );
  return { steps, rejected };
}

function copied(weights: Weights): Weights {
  return Object.fromEntries(Object.entries(weights).map(([name, data]) => [name, data.slice()]));
}

function bitsOf(weights: Weights): [string, number[]][] {
  return Object.entries(weights).map(([name, data]) => [name, [...new Uint32Array(data.slice().buffer)]]);
}

/** Of as many shards as there can be, up to some. */
function planOf(params: Parameters, shards: number, cut: boolean): ShardPlan {
  for (let most = shards; ; most--) {
    try {
      return shardPlan(params, { shards: most, cut });
    } catch (error) {
      if (most === 1) throw error;
    }
  }
}

it('a model in shards has the bits of the model in one piece after every step', async () => {
  await fc.assert(
    fc.asyncProperty(
      shapes.filter(([first]) => sizeOf(first!) > 0),
      events,
      fc.constantFrom(...scans),
      settings,
      fc.integer({ min: 1, max: 4 }),
      fc.boolean(),
      fc.boolean(),
      async (shapes, given, [name, scan], settings, shards, cut, wire) => {
        const create = () =>
          Parameters.create(Object.fromEntries(shapes.map((dims, i) => [`p${i}`, { dims, data: wave(sizeOf(dims), i) }])));
        const plan = planOf(create(), shards, cut && !needsWhole.test(name));
        const events = eventsOf(given, shapes, settings.merged > 1);
        const whole = await run(events, create(), scan, settings);
        const parts = await Promise.all(
          plan.shards.map((_, shard) =>
            run(shardOf(events, plan, shard, wire), shardParameters(plan, shard, create()), scan, settings),
          ),
        );
        for (const part of parts) {
          expect(part.rejected).toEqual(whole.rejected);
          expect(part.steps.map(({ facts }) => facts)).toEqual(whole.steps.map(({ facts }) => facts));
        }
        for (const [i, { weights, average }] of whole.steps.entries()) {
          const joined = joinShards(
            plan,
            parts.map(({ steps }) => steps[i]!.weights),
          );
          expect(bitsOf(joined)).toEqual(bitsOf(weights));
          if (!average) continue;
          const averages = joinShards(
            plan,
            parts.map(({ steps }) => steps[i]!.average!),
          );
          expect(bitsOf(averages)).toEqual(bitsOf(average));
        }
      },
    ),
    { numRuns: 100 },
  );
}, 600_000);
