import {
  adam,
  clipByGlobalNorm,
  type GradientBatch,
  gradientBatch,
  hotSwap,
  Parameters,
  sgd,
  staleness,
  type TrainingEvent,
} from 'rxgrad';
import { from, identity, lastValueFrom, type OperatorFunction, pipe } from 'rxjs';
import { expect, it } from 'vitest';
import { WeightHistory } from '../../src/optimizers/weight-history.ts';
import { wave } from '../stages/gradients.ts';
import { type Scan, scans } from './batches.ts';

const ROWS = 40;
const WIDTH = 30;
const lamb = scans.find(([name]) => name === 'Lamb {}')![1];
const model = () => Parameters.create({ table: { dims: [ROWS, WIDTH], data: wave(ROWS * WIDTH) }, bias: { dims: [50] } });

/** Rows, all of it, and the bias alone, by turns; each a version late. */
const batches = (from: number): GradientBatch[] =>
  Array.from({ length: 6 }, (_, i) => {
    const indices = [i, 17, 3 + 2 * i];
    const rows = { indices, values: wave(3 * WIDTH, i), dims: [3, WIDTH] };
    const table = i % 3 === 0 ? { table: rows } : i % 3 === 1 ? { table: wave(ROWS * WIDTH, i) } : {};
    return gradientBatch({ gradients: { bias: wave(50, i), ...table }, base: from + Math.max(0, i - 1) });
  });

type Between = OperatorFunction<TrainingEvent, TrainingEvent>;
const adaptive = staleness({ type: 'compensate', adaptive: true, versions: 3 });

it.each<[string, Scan, Between]>([
  ['a rule that steps rows', sgd, identity],
  ['a rule with state', adam, clipByGlobalNorm(1)],
  ['a rule that takes rows for a dense gradient', lamb, identity],
  ['a stage that compensates', adam, pipe(staleness({ type: 'compensate', versions: 3 }), clipByGlobalNorm(1))],
  ['a stage that compensates and adapts', sgd, adaptive],
  ['a stage that compensates before such a rule', lamb, adaptive],
])('%s gives all of its memory back', async (_, scan, between) => {
  for (const reading of [false, true]) {
    const params = model();
    if (reading) params.reader();
    const session = { params, swap: () => void params.swap() };
    const run = async (): Promise<void> => {
      await lastValueFrom(from<TrainingEvent[]>(batches(params.version)).pipe(between, scan(params), hotSwap(session)));
      // Its memory is kept for who asks for its state, until another begins.
      params.seat.forget();
    };
    for (let i = 0; i < 3; i++) await run();
    const before = params.arena.allocate(1 << 15);
    for (let i = 0; i < 5; i++) await run();
    expect(params.arena.allocate(1 << 15)).toBe(before + (1 << 15));
  }
});

it('so does one that goes on from a state with old weights', async () => {
  const params = model();
  const source = model();
  await lastValueFrom(from<TrainingEvent[]>(batches(0)).pipe(adaptive, sgd(source)));
  const state = source.stateDict();
  const run = async (): Promise<void> => {
    params.loadStateDict(state);
    await lastValueFrom(from<TrainingEvent[]>(batches(params.version)).pipe(adaptive, sgd(params)));
    params.seat.forget();
  };
  for (let i = 0; i < 3; i++) await run();
  const before = params.arena.allocate(1 << 15);
  for (let i = 0; i < 5; i++) await run();
  expect(params.arena.allocate(1 << 15)).toBe(before + (1 << 15));
});

it('a long run needs no more than a short one, however many versions are compensated', async () => {
  const params = model();
  const many = Array.from({ length: 20 }, (_, i) => batches(6 * i)).flat();
  let before = 0;
  await lastValueFrom(
    from<TrainingEvent[]>(many).pipe(
      adaptive,
      sgd(params),
      hotSwap({
        params,
        swap: () => {
          if (params.version === 20) before = params.arena.allocate(1 << 15);
        },
      }),
    ),
  );
  expect(params.arena.allocate(1 << 15)).toBe(before + (1 << 15));
});

it('old weights are those of their versions, whole or by rows, until as many newer ones are kept', () => {
  const params = Parameters.create({
    table: { dims: [4, 2], data: [1, 2, 3, 4, 5, 6, 7, 8] },
    bias: { dims: [2], data: [9, 10] },
  });
  const history = new WeightHistory(params);
  const { arena, leftRight, places } = params;
  const newest = (index: number) => leftRight.address(leftRight.latest) + places[index]!.offset;
  const at = (index: number, version: number, rows: Int32Array | null = null) => [
    ...arena.floats(history.weightsAt(index, version, rows, newest(index)), places[index]!.length),
  ];
  history.versions = 2;
  expect(history.oldest).toBe(0);
  history.begin(0);
  history.keepRows(0, Int32Array.of(1, 3), newest(0));
  params.load({ table: [1, 2, -3, -4, 5, 6, -7, -8] });
  expect(history.oldest).toBe(0);
  expect([at(0, 0), at(0, 1), at(1, 0)]).toEqual([
    [1, 2, 3, 4, 5, 6, 7, 8],
    [1, 2, -3, -4, 5, 6, -7, -8],
    [9, 10],
  ]);
  history.begin(1);
  arena.floats(history.keepWhole(1), 2).set([9, 10]);
  history.keepRows(0, Int32Array.of(3, 0), newest(0));
  params.load({ table: [0, 0, -3, -4, 5, 6, 0, 0], bias: [0, 0] });
  expect([at(0, 0), at(0, 1), at(0, 2), at(1, 0), at(1, 1), at(1, 2)]).toEqual([
    [1, 2, 3, 4, 5, 6, 7, 8],
    [1, 2, -3, -4, 5, 6, -7, -8],
    [0, 0, -3, -4, 5, 6, 0, 0],
    [9, 10],
    [9, 10],
    [0, 0],
  ]);
  expect(at(0, 0, Int32Array.of(3)).slice(6)).toEqual([7, 8]);
  history.begin(2);
  expect([history.entries.map(({ version }) => version), history.oldest]).toEqual([[1, 2], 3 - 1]);
  params.load({ bias: [1, 1] });
  expect(history.oldest).toBe(1);
  // Weights that were loaded in between lead nowhere.
  params.load({ bias: [2, 2] });
  expect(history.oldest).toBe(4);
  history.begin(4);
  expect(history.entries.map(({ version }) => version)).toEqual([4]);
  history.dispose();
});
