import fc from 'fast-check';
import {
  accumulate,
  addDecayedWeights,
  clipByGlobalNorm,
  clipByValue,
  encodeEvent,
  epochBoundary,
  type GradientInput,
  gradientBatch,
  hotSwap,
  metricReport,
  Parameters,
  type Rejection,
  type ScanOptions,
  staleness,
  type TrainingEvent,
} from 'rxgrad';
import { from, identity, lastValueFrom, map, type OperatorFunction, tap, toArray } from 'rxjs';
import { expect, it } from 'vitest';
import { EventDecoder } from '../../src/sources/codec.ts';
import { wave } from '../stages/gradients.ts';
import { bitsOf, scans } from './batches.ts';

type Stage = OperatorFunction<TrainingEvent, TrainingEvent>;

const dims = { table: [11, 3], matrix: [4, 5], bias: [7] };
const sizeOf = (shape: readonly number[]): number => shape.reduce((size, dim) => size * dim, 1);
const model = (): Parameters =>
  Parameters.create(
    Object.fromEntries(Object.entries(dims).map(([name, shape], i) => [name, { dims: shape, data: wave(sizeOf(shape), i) }])),
  );

const event = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant('batch' as const), rows: fc.uniqueArray(fc.nat(10), { maxLength: 4 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom('epoch' as const, 'metric' as const, 'twice' as const, 'nan' as const) }),
  },
);
const parts = fc.uniqueArray(fc.constantFrom('table', 'rows', 'matrix', 'bias'), { minLength: 1, maxLength: 3 });
const stream = fc.array(
  fc.record({
    event,
    parts,
    staleness: fc.nat(3),
    size: fc.integer({ min: 1, max: 9 }),
    dtype: fc.constantFrom('F32', 'F16', 'BF16', 'I8'),
  }),
  { minLength: 1, maxLength: 14 },
);
const stages: Record<string, () => Stage> = {
  norm: () => clipByGlobalNorm({ bias: 0.5, '*': 2 }),
  value: () => clipByValue(0.6),
  decay: () => addDecayedWeights({ 'm*': 0.1, '*': 0.01 }),
  scale: () => staleness({ type: 'scale' }),
  drop: () => staleness({ type: 'drop', above: 2 }),
  compensate: () => staleness({ type: 'compensate', lambda: 0.5, adaptive: true, versions: 2 }),
};
const chain = fc.uniqueArray(fc.constantFrom(...Object.keys(stages)), { maxLength: 5 });
const scan = fc.constantFrom(...scans);
const lr = fc.constantFrom<NonNullable<ScanOptions['lr']>>(
  0.05,
  { type: 'StepLR', baseLr: 0.1, stepSize: 1, gamma: 0.5 },
  { type: 'ReduceLROnPlateau', baseLr: 0.1, patience: 0, factor: 0.5 },
);
const options = fc.record({
  lr,
  tickOn: fc.constantFrom('epoch' as const, 'step' as const),
  frozen: fc.boolean(),
  average: fc.constantFrom(null, {}, { decay: { table: 0, '*': 0.7 } }, { decay: 0.5, after: 2 }),
});

type Steps = typeof stream extends fc.Arbitrary<infer T> ? T : never;

/** Events as they come from the wire, each in a type of its own. */
function eventsOf(steps: Steps): TrainingEvent[] {
  const decoder = new EventDecoder();
  return steps.map(({ event, parts, staleness, size, dtype }, i) => {
    if (event.kind === 'epoch') return epochBoundary(i);
    if (event.kind === 'metric') return metricReport({ name: 'loss', value: 1 + (i % 3) });
    const gradients: Record<string, GradientInput> = {};
    for (const part of parts) {
      if (part === 'rows') {
        const indices = event.kind === 'batch' ? event.rows : [3];
        if (!parts.includes('table'))
          gradients.table = { indices, values: wave(3 * indices.length, i), dims: [indices.length, 3] };
      } else gradients[part] = wave(sizeOf(dims[part as keyof typeof dims]), i);
    }
    if (event.kind === 'nan') gradients.bias = wave(7).fill(Number.NaN, 3, 4);
    if (Object.keys(gradients).length === 0) gradients.bias = wave(7, i);
    const facts = {
      worker: 'w',
      sequence: event.kind === 'twice' ? 0 : i + 1,
      batchSize: size,
      base: Math.max(0, i - 4 - staleness),
    };
    const { value, headers } = encodeEvent(gradientBatch({ gradients, ...facts }), {
      dtype: event.kind === 'nan' ? 'F32' : (dtype as 'F32'),
    });
    const record = { value, headers, key: null, topic: 't', partition: 0, offset: i, timestamp: 0 };
    return decoder.decode(record as never, { position: { topic: 't', partition: 0, offset: i }, source: { done: () => {} } });
  });
}

interface Run {
  readonly threads: number;
  readonly reading: boolean;
  /** Where the run is ended, and goes on from its state dict; null for not at all. */
  readonly cut: number | null;
}

it('any optimizer behind any stages gives the same bits in place, on threads, beside readers, and when it goes on from its state', async () => {
  await fc.assert(
    fc.asyncProperty(
      stream,
      chain,
      scan,
      options,
      fc.nat(2),
      fc.nat(13),
      async (steps, chain, [, scan], options, merged, cut) => {
        const events = eventsOf(steps);
        const between = [...(merged > 0 ? [accumulate(1 + merged)] : []), ...chain.map((name) => stages[name]!())];

        const run = async ({ threads, reading, cut }: Run) => {
          let into = model();
          let params = options.average ? into.twin() : into;
          const reasons: string[] = [];
          const seen: object[] = [];
          for (const part of cut === null ? [events] : [events.slice(0, cut), events.slice(cut)]) {
            if (seen.length > 0 || part !== events) {
              const state = params.stateDict();
              into = model();
              params = options.average ? into.twin() : into;
              params.loadStateDict(state);
            }
            const readers = reading ? [params.reader(), into.reader()] : [];
            const average = options.average ? { into, ...options.average } : undefined;
            const scanOptions: ScanOptions = {
              lr: options.lr,
              tickOn: options.tickOn,
              threads,
              groups: options.frozen ? [{ params: 'matrix', frozen: true }] : [],
              rejections: { next: ({ reason, position }: Rejection) => reasons.push(`${position?.offset} ${reason}`) },
              ...(average ? { average } : {}),
            };
            const staged = between.reduce((events$, stage) => events$.pipe(stage), from(part));
            const updates = await lastValueFrom(
              staged.pipe(
                scan(params, scanOptions),
                hotSwap({ params: into, swap: () => into.swap() }),
                reading ? tap(() => params.swap()) : identity,
                map(({ version, lr, gradientNorm, clipped, epoch }) => ({ version, lr, gradientNorm, clipped, epoch })),
                toArray(),
              ),
            );
            seen.push(...updates);
            for (const reader of readers) reader.close();
          }
          return { bits: bitsOf(params), average: bitsOf(into), reasons, seen };
        };

        const expected = await run({ threads: 0, reading: false, cut: null });
        expect(await run({ threads: 0, reading: true, cut: null })).toEqual(expected);
        expect(await run({ threads: 1, reading: cut % 2 === 0, cut: null })).toEqual(expected);
        // Merged batches that are under way are no part of a state: their events come again.
        if (merged === 0)
          expect(await run({ threads: 0, reading: cut % 3 === 0, cut: Math.min(cut, events.length) })).toEqual(expected);
      },
    ),
    { numRuns: 100 },
  );
});
