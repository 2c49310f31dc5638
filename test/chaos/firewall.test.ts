import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import MersenneTwister from 'mersenne-twister';
import {
  accumulate,
  adam,
  clipByGlobalNorm,
  deadLetters,
  fromTransport,
  memoryTransport,
  momentum,
  type NewRecord,
  type Parameters,
  type Position,
  type Rejection,
  type ScanOptions,
  staleness,
  type TrainingEvent,
  type WeightsUpdate,
} from 'rxgrad';
import { lastValueFrom, type OperatorFunction, pipe } from 'rxjs';
import { expect, it } from 'vitest';
import { readDeadLetter } from '../../src/sinks/dead-letter.ts';
import { readAll } from '../../src/sources/read-all.ts';
import { bitsOf } from '../optimizers/batches.ts';
import { mutate, type Random } from './mutations.ts';
import { model, validRecord } from './valid-records.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

// `RXGRAD_MUTATIONS=100000 npx vitest run --project chaos firewall` for more of them, `RXGRAD_SEED` for others.
const count = Number(process.env.RXGRAD_MUTATIONS ?? 5000);
const firstSeed = Number(process.env.RXGRAD_SEED ?? 1);
const ROUND = 100;

type Chain = (params: Parameters, options: ScanOptions) => OperatorFunction<TrainingEvent, WeightsUpdate>;
const outliers = { policy: 'reject', window: 32, after: 8 } as const;
const chains: [string, Chain][] = [
  ['a momentum scan', (params, options) => momentum(params, { ...options, lr: 0.1 })],
  [
    'stages and a norm to keep to',
    (params, options) => pipe(clipByGlobalNorm(1), staleness({ type: 'scale' }), adam(params, { ...options, outliers })),
  ],
  ['another thread', (params, options) => momentum(params, { ...options, lr: 0.1, threads: 1 })],
  ['merged batches', (params, options) => pipe(accumulate(2), momentum(params, { ...options, lr: 0.1 }))],
];

interface Outcome {
  readonly params: Parameters;
  readonly updates: number;
  readonly rejected: Rejection[];
  readonly letters: number[];
}

async function train(records: readonly NewRecord[], chain: Chain): Promise<Outcome> {
  const transport = memoryTransport();
  await transport.createTopic('g');
  await transport.createTopic('dead');
  await transport.produce('g', records);
  const params = model();
  const rejected: Rejection[] = [];
  const { next, flushed } = deadLetters(transport, { topic: 'dead', maxInFlight: 20 });
  const both = (rejection: Rejection): unknown => {
    rejected.push(rejection);
    return next(rejection);
  };
  let updates = 0;
  const events$ = fromTransport(transport, { topic: 'g', from: 'beginning', until: 'end' });
  const options = { rejections: { next: both, flushed }, maxRejectionsInARow: Number.POSITIVE_INFINITY };
  await lastValueFrom(events$.pipe(chain(params, options)), { defaultValue: null });
  updates = params.version;
  const letters: number[] = [];
  await readAll(transport, 'dead', {}, (record) => void letters.push(readDeadLetter(record, 0)!.position!.offset));
  await transport.close();
  return { params, updates, rejected, letters };
}

function placesOf({ delivery }: Rejection): Position[] {
  return (delivery!.parts ?? [delivery!]).map(({ position }) => position);
}

function recordsOf(random: Random): NewRecord[] {
  return Array.from({ length: ROUND }, (_, sequence) => {
    const record = validRecord(sequence, random);
    return random() < 0.9 ? mutate(record, random) : record;
  });
}

it.each(chains)(
  'what was tampered with is applied or becomes a dead letter with a reason, in front of %s',
  async (name, chain) => {
    const sizes: number[] = [];
    for (let round = 0; round * ROUND < count / chains.length; round++) {
      const seed = firstSeed + round;
      const records = recordsOf(
        (
          (generator) => () =>
            generator.random()
        )(new MersenneTwister(seed)),
      );
      const { params, rejected, letters } = await train(records, chain);
      const left = new Set(rejected.flatMap(placesOf).map(({ offset }) => offset));
      const bad = rejected.filter(({ error }) => error.status !== 409).flatMap(placesOf);
      expect(
        letters.toSorted((a, b) => a - b),
        `seed ${seed}`,
      ).toEqual(bad.map(({ offset }) => offset).toSorted((a, b) => a - b));
      for (const { error } of rejected) expect(error.disposition, `seed ${seed}: ${error.message}`).toBe('skip');
      for (const { error } of rejected) expect(error.message.length).toBeLessThan(4000);

      const accepted = records.filter((_, offset) => !left.has(offset));
      expect(accepted.length).toBeGreaterThan(ROUND / 20);
      expect(left.size).toBeGreaterThan(ROUND / 3);
      // An epoch that is rejected merges what came before it all the same.
      if (name !== 'merged batches') {
        const calm = await train(accepted, chain);
        expect(
          calm.rejected.map(({ error }) => error.message),
          `seed ${seed}`,
        ).toEqual([]);
        expect(bitsOf(params), `seed ${seed}`).toEqual(bitsOf(calm.params));
        expect(bitsOf(params).every((bits) => (bits & 0x7f800000) !== 0x7f800000)).toBe(true);
      }
      collectGarbage();
      const { heapUsed, external } = process.memoryUsage();
      sizes.push(heapUsed + external);
    }
    // The engine's caches fill in the first rounds.
    if (sizes.length > 8) expect(sizes.at(-1)! - sizes[4]!).toBeLessThan(16 << 20);
  },
  30_000 + 20 * count,
);
