import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import MersenneTwister from 'mersenne-twister';
import {
  addDecayedWeights,
  clipByGlobalNorm,
  clipByValue,
  epochBoundary,
  gradientBatch,
  Parameters,
  type Rejection,
  type TrainingEvent,
} from 'rxgrad';
import { concat, defer, finalize, from, lastValueFrom, type OperatorFunction, pipe, Subject, toArray } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { eventually } from '../eventually.ts';
import { type Scan, scans } from './batches.ts';

// Longer than a job of the pool, shorter than a block of sums, and next to nothing.
const shapes = { table: [300, 467], vector: [70_001], small: [3] };
const random = new MersenneTwister(3);
const numbers = (length: number): Float32Array => Float32Array.from({ length }, () => 2 * random.random() - 1);
const tensors = (): Record<string, Float32Array> =>
  Object.fromEntries(Object.entries(shapes).map(([name, dims]) => [name, numbers(dims.reduce((a, b) => a * b))]));

const start = tensors();
const events: TrainingEvent[] = [
  gradientBatch({ gradients: tensors() }),
  gradientBatch({ gradients: { vector: numbers(70_001) } }),
  epochBoundary(0),
  gradientBatch({ gradients: { ...tensors(), small: Float32Array.of(1, Number.NaN, 1) } }),
  gradientBatch({ gradients: tensors() }),
];

const model = (): Parameters =>
  Parameters.create(Object.fromEntries(Object.entries(shapes).map(([name, dims]) => [name, { dims, data: start[name]! }])));

type Between = OperatorFunction<TrainingEvent, TrainingEvent>;
// One end that fuses with the rule, and one order that does not.
const fused: Between = pipe(clipByGlobalNorm(1), clipByValue(0.002), addDecayedWeights(0.01));
const oneByOne: Between = pipe(addDecayedWeights(0.01), clipByValue(0.002), clipByGlobalNorm(0.1));

/** Stands for every bit of the newest weights. */
function digestOf(params: Parameters): string {
  const hash = createHash('sha256');
  for (const { data } of params) hash.update(data.slice());
  return hash.digest('hex');
}

/** All that a run leaves behind. */
async function run(scan: Scan, before: Between, threads: number, readerAttached = false) {
  const params = model();
  if (readerAttached) params.reader();
  const rejected: string[] = [];
  const lr = { type: 'StepLR', baseLr: 0.1, stepSize: 1 } as const;
  const rejections = { next: ({ error }: Rejection) => rejected.push(error.message) };
  const options = { threads, lr, groups: [{ params: 'small', frozen: true }], rejections };
  const updates = await lastValueFrom(from(events).pipe(before, scan(params, options), toArray()));
  const facts = updates.map(({ version, lr, gradientNorm, clipped }) => ({ version, lr, gradientNorm, clipped }));
  return { facts, rejected, bits: digestOf(params) };
}

describe.each(scans)('%s', (_, scan) => {
  it('gives the same bits on any number of threads, and in place', async () => {
    for (const [before, readerAttached] of [
      [fused, false],
      [oneByOne, true],
    ] as const) {
      const inPlace = await run(scan, before, 0, readerAttached);
      expect(inPlace.facts).toHaveLength(3);
      for (const threads of [1, 3]) expect(await run(scan, before, threads, readerAttached)).toEqual(inPlace);
    }
  });
});

describe('a scan on threads', () => {
  const [, momentum] = scans.find(([name]) => name === 'Momentum {}')!;

  it('finishes the step that is under way when it is unsubscribed from, and lets go of the parameters then', async () => {
    const params = model();
    const source = new Subject<TrainingEvent>();
    const seen: number[] = [];
    const subscription = source.pipe(momentum(params, { threads: 2 })).subscribe(({ version }) => seen.push(version));
    source.next(events[0]!);
    source.next(events[1]!);
    await delay(0);
    subscription.unsubscribe();
    const whole = model();
    from(events.slice(0, 1))
      .pipe(momentum(whole, { threads: 0 }))
      .subscribe();
    // Either the step had begun, and is whole, or it had not.
    let resubscribed = false;
    for (let i = 0; i < 500 && !resubscribed; i++) {
      await delay(2);
      from<TrainingEvent[]>([])
        .pipe(momentum(params, { threads: 0 }))
        .subscribe({
          complete: () => {
            resubscribed = true;
          },
          error: () => {},
        });
    }
    expect(resubscribed).toBe(true);
    expect(seen).toEqual([]);
    expect([digestOf(model()), digestOf(whole)]).toContain(digestOf(params));
  });

  it('leaves no thread behind when it ends, and can be had again at once', async () => {
    const params = model();
    for (let i = 0; i < 3; i++) {
      let ended = false;
      const once = concat(
        from(events),
        defer(() => []),
      ).pipe(
        momentum(params, { threads: 1 }),
        finalize(() => (ended = true)),
      );
      await lastValueFrom(once);
      expect(ended).toBe(true);
    }
    expect(params.version).toBe(9);
    await expect.poll(() => process.getActiveResourcesInfo()).not.toContain('MessagePort');
  });

  describe('with messages so long that the next one is taken in while one is stepped', () => {
    const length = 2 ** 21 + 5;
    const large = (): Parameters => Parameters.create({ w: { dims: [length] }, v: { dims: [3] } });
    const gradients = [1, 2, 3].map(() => numbers(length));
    const at = (i: number, facts = {}) =>
      gradientBatch({ gradients: { w: gradients[i]!, v: Float32Array.of(i, -i, 1) }, worker: 'w', ...facts });
    const stream: TrainingEvent[] = [
      at(0, { sequence: 1 }),
      at(1, { sequence: 2 }),
      at(2, { sequence: 2 }),
      epochBoundary(0),
      gradientBatch({ gradients: { w: gradients[0]!.map((g, i) => (i === length - 1 ? Number.NaN : g)), v: numbers(3) } }),
      gradientBatch({ gradients: { v: Float32Array.of(1, 2, 3) } }),
      at(2, { sequence: 3 }),
      at(0, { sequence: 4 }),
    ];

    it.each([1, 3])('gives the same bits, and rejects the same, on %i threads', async (threads) => {
      const run = async (threads: number) => {
        const params = large();
        const reasons: string[] = [];
        const rejections = { next: ({ reason, sequence }: Rejection) => reasons.push(`${sequence} ${reason}`) };
        const lr = { type: 'StepLR', baseLr: 0.1, stepSize: 1 } as const;
        await lastValueFrom(from(stream).pipe(fused, momentum(params, { threads, lr, rejections })));
        return { bits: digestOf(params), version: params.version, reasons };
      };
      const inPlace = await run(0);
      expect(inPlace).toMatchObject({ version: 5, reasons: ['2 duplicate', 'undefined notFinite'] });
      expect(await run(threads)).toEqual(inPlace);
    });

    it('writes nothing any more once it is unsubscribed from', async () => {
      const params = large();
      for (let turns = 0; turns < 12; turns++) {
        const subscription = from(stream)
          .pipe(momentum(params, { threads: 1 }))
          .subscribe();
        for (let turn = 0; turn < turns; turn++) await delay(0);
        subscription.unsubscribe();
        await eventually(() => params.stateDict());
        await delay(0);
      }
      const [expected, got] = [large(), params];
      got.load(Object.fromEntries([...expected].map(({ name, data }) => [name, data])));
      for (const [each, threads] of [
        [expected, 0],
        [got, 1],
      ] as const) {
        await lastValueFrom(from(stream).pipe(momentum(each, { threads })));
      }
      expect(digestOf(got)).toBe(digestOf(expected));
    });
  });

  it('steps from a number of parameters on aside, so that an update comes later', async () => {
    const large = Parameters.create({ w: { dims: [2 ** 19] } });
    const small = Parameters.create({ w: { dims: [2 ** 19 - 1] } });
    const updates = [large, small].map((params) => {
      const batch = gradientBatch({ gradients: { w: new Float32Array(params.get('w').length) } });
      const seen: number[] = [];
      const ended = new Promise<void>((complete) => {
        from([batch])
          .pipe(momentum(params))
          .subscribe({ next: ({ version }) => seen.push(version), complete });
      });
      return { seen, ended };
    });
    expect(updates.map(({ seen }) => seen)).toEqual([[], [1]]);
    await Promise.all(updates.map(({ ended }) => ended));
    expect(updates.map(({ seen }) => seen)).toEqual([[1], [1]]);
  });

  it.each([-1, 1.5, 65, '2'])('refuses %j threads', (threads) => {
    expect(() => momentum(model(), { threads: threads as number })).toThrow(/threads: expected/);
  });
});
