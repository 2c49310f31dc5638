import fc from 'fast-check';
import MersenneTwister from 'mersenne-twister';
import {
  adagrad,
  adam,
  addDecayedWeights,
  clipByGlobalNorm,
  clipByValue,
  ftrl,
  GradientBatch,
  gradientBatch,
  momentum,
  Parameters,
  type Rejection,
  sgd,
  type TrainingEvent,
} from 'rxgrad';
import { from, identity, lastValueFrom, map, type OperatorFunction, pipe, toArray } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { tensorLayout } from '../../src/payload.ts';
import { bitsOf, type Scan, scans } from './batches.ts';

type Between = OperatorFunction<TrainingEvent, TrainingEvent>;
type Rows = ReadonlyMap<number, readonly number[]>;

const ROWS = 23;
const WIDTH = 5;
const random = new MersenneTwister(11);
const numbers = (length: number): number[] => Array.from({ length }, () => Math.fround(4 * random.random() - 2));
const start = numbers(ROWS * WIDTH);
const bias = numbers(3);

const rowOf = (values: ArrayLike<number>, row: number): number[] => Array.from(values).slice(row * WIDTH, (row + 1) * WIDTH);
const rowsAt = (values: ArrayLike<number>, rows: readonly number[]): number[] => rows.flatMap((row) => rowOf(values, row));

/** A table beside a small dense parameter. */
function model(data = start): Parameters {
  return Parameters.create({ table: { dims: [data.length / WIDTH, WIDTH], data }, bias: { dims: [3], data: bias } });
}

function gradientsFor(rows: readonly number[]): Rows {
  return new Map(rows.map((row) => [row, numbers(WIDTH)]));
}

function sparse(rows: Rows): GradientBatch {
  const values = Float32Array.from([...rows.values()].flat());
  return gradientBatch({
    gradients: { bias: Float32Array.of(1, -2, 3), table: { indices: [...rows.keys()], values, dims: [rows.size, WIDTH] } },
  });
}

function dense(table: readonly number[]): GradientBatch {
  return gradientBatch({ gradients: { bias: Float32Array.of(1, -2, 3), table: Float32Array.from(table) } });
}

function spread(rows: Rows): number[] {
  return Array.from({ length: ROWS }, (_, row) => rows.get(row) ?? Array(WIDTH).fill(0)).flat();
}

async function step(
  params: Parameters,
  scan: Scan,
  batches: readonly GradientBatch[],
  { between = identity, threads = 0 }: { between?: Between; threads?: number } = {},
): Promise<void> {
  await lastValueFrom(from(batches).pipe(between, scan(params, { lr: 0.1, threads }), toArray()));
}

// One pass, element by element: a row is stepped by itself, and its state with it.
const byRows = /^(SGD|Momentum|Adam |AdamW|Adagrad|Adadelta|RMSprop|Adamax|RAdam|Yogi|AdaBelief|Lion|Rprop|FTRL)/;
const [lazy, whole] = [scans.filter(([name]) => byRows.test(name)), scans.filter(([name]) => !byRows.test(name))];
const clipAndDecay: Between = pipe(clipByGlobalNorm(3), clipByValue(0.9), addDecayedWeights(0.01));
const decayFirst: Between = pipe(addDecayedWeights(0.01), clipByValue(0.9), clipByGlobalNorm(1.5));

describe.each(lazy)('%s steps rows by themselves', (_, scan) => {
  const touched = [17, 3, 4, 22, 0];
  const steps = [1, 2, 3, 4].map(() => gradientsFor(touched));

  it.each([
    ['alone', identity],
    ['clip and decay', clipAndDecay],
    ['decay first', decayFirst],
  ])('as it steps a table of them alone, bit for bit, and leaves the others (%s)', async (_, between) => {
    const [table, alone] = [model(), model(rowsAt(start, touched))];
    await step(table, scan, steps.map(sparse), { between });
    await step(
      alone,
      scan,
      steps.map((rows) => dense([...rows.values()].flat())),
      { between },
    );
    const { data } = table.get('table');
    expect(rowsAt(data, touched)).toEqual([...alone.get('table').data]);
    expect(table.get('bias').data).toEqual(alone.get('bias').data);
    for (let row = 0; row < ROWS; row++) if (!touched.includes(row)) expect(rowOf(data, row)).toEqual(rowOf(start, row));
    expect(rowsAt(data, touched)).not.toEqual(rowsAt(start, touched));
  });
});

describe.each(whole)('%s takes rows for a dense gradient with zeros', (_, scan) => {
  it.each([0, 1])('bit for bit, on %i threads', async (threads) => {
    const [rows, zeros] = [model(), model()];
    const steps = [[17, 3, 4], [22], [], [0, 3]].map(gradientsFor);
    await step(rows, scan, steps.map(sparse), { between: clipByValue(0.9), threads });
    await step(
      zeros,
      scan,
      steps.map((step) => dense(spread(step))),
      { between: clipByValue(0.9) },
    );
    expect(bitsOf(rows)).toEqual(bitsOf(zeros));
    expect(bitsOf(rows)).not.toEqual(bitsOf(model()));
  });
});

describe.each(scans)('%s', (_, scan) => {
  it('gives equal bits where the gradients are read in between', async () => {
    const [left, read] = [model(), model()];
    const steps = [[17, 3], [3, 9, 22], [1]].map((rows) => sparse(gradientsFor(rows)));
    const ask = map((event: TrainingEvent) => (event instanceof GradientBatch ? event.withGradients(event.gradients) : event));
    await step(left, scan, steps, { between: pipe(addDecayedWeights(0.01, left), clipByValue(0.9)) });
    await step(read, scan, steps, { between: pipe(addDecayedWeights(0.01, read), clipByValue(0.9), ask) });
    expect(bitsOf(read)).toEqual(bitsOf(left));
  });
});

describe('a step of rows', () => {
  it.each<[string, Scan, Parameters_<typeof model>]>([
    ['SGD', sgd, start],
    ['Adagrad', adagrad, start],
    ['FTRL from weights of 0', (params, options) => ftrl(params, { ...options, l1: 0.1, l2: 0.2 }), start.map(() => 0)],
    ['FTRL that starts warm', (params, options) => ftrl(params, { ...options, warmStart: true }), start],
  ])('is that of a dense gradient with zeros: %s', async (name, scan, data) => {
    const [rows, zeros] = [model(data), model(data)];
    const steps = [[17, 3, 4], [22], [], [0, 3]].map(gradientsFor);
    await step(rows, scan, steps.map(sparse));
    await step(
      zeros,
      scan,
      steps.map((step) => dense(spread(step))),
    );
    // A start that stands for weights is rounded once.
    if (!name.endsWith('warm')) expect(bitsOf(rows)).toEqual(bitsOf(zeros));
    zeros.get('table').data.forEach((value, i) => {
      expect(rows.get('table').data[i]).toBeCloseTo(value, 5);
    });
    expect(bitsOf(rows)).not.toEqual(bitsOf(model(data)));
  });

  it('of a row that comes twice is that of the sum', async () => {
    const [twice, once] = [model(), model()];
    const rows = { indices: [4, 9, 4], values: Float32Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]) };
    await step(twice, sgd, [gradientBatch({ gradients: { table: rows } })]);
    const sum = { indices: [4, 9], values: Float32Array.from([12, 14, 16, 18, 20, 6, 7, 8, 9, 10]) };
    await step(once, sgd, [gradientBatch({ gradients: { table: sum } })]);
    expect(bitsOf(twice)).toEqual(bitsOf(once));
  });
});

describe('lazy state against its formula in float64', () => {
  const steps = [[17, 3, 4], [3], [], [17, 0], [3, 4]].map(gradientsFor);

  /** Steps each row only where it is touched; `count` counts steps of the table. */
  function formula(update: (w: number, g: number, state: [number, number], count: number) => number): number[] {
    const weights = [...start];
    const states = weights.map((): [number, number] => [0, 0]);
    for (const [i, rows] of steps.entries()) {
      for (const [row, values] of rows) {
        for (const [j, g] of values.entries()) {
          const at = row * WIDTH + j;
          weights[at] = update(weights[at]!, g, states[at]!, i + 1);
        }
      }
    }
    return weights;
  }

  it.each<[string, Scan, Parameters_<typeof formula>]>([
    [
      'Momentum',
      (params, options) => momentum(params, { ...options, momentum: 0.9 }),
      (w, g, state) => {
        state[0] = 0.9 * state[0] + g;
        return w - 0.1 * state[0];
      },
    ],
    [
      'Adam',
      adam,
      (w, g, state, count) => {
        state[0] = 0.9 * state[0] + 0.1 * g;
        state[1] = 0.999 * state[1] + 0.001 * g * g;
        return w - (0.1 * (state[0] / (1 - 0.9 ** count))) / (Math.sqrt(state[1] / (1 - 0.999 ** count)) + 1e-8);
      },
    ],
  ])('%s', async (_, scan, update) => {
    const params = model();
    await step(params, scan, steps.map(sparse));
    const expected = formula(update);
    params.get('table').data.forEach((value, i) => {
      expect(value).toBeCloseTo(expected[i]!, 5);
    });
  });
});

type Parameters_<F extends (...args: never[]) => unknown> = F extends (...args: infer A) => unknown ? A[0] : never;

describe('readers on the other side', () => {
  const kinds = fc.constantFrom('rows', 'rows', 'rows', 'dense', 'bias');
  const plan = fc.array(
    fc.record({ kind: kinds, rows: fc.uniqueArray(fc.nat(ROWS - 1), { maxLength: 4 }), swap: fc.boolean() }),
    { minLength: 1, maxLength: 12 },
  );

  it.each<[string, Scan]>([
    ['Momentum', (params, options) => momentum(params, options)],
    ['Adam', adam],
    ['Lamb', scans.find(([name]) => name.startsWith('Lamb'))![1]],
  ])('see whole versions, with the bits of a run without them (%s)', (_, scan) => {
    fc.assert(
      fc.property(plan, (steps) => {
        const [inPlace, beside] = [model(), model()];
        const batches = steps.map(({ kind, rows }) => {
          if (kind === 'rows') return sparse(gradientsFor(rows));
          if (kind === 'dense') return dense(numbers(ROWS * WIDTH));
          return gradientBatch({ gradients: { bias: Float32Array.of(3, 2, 1) } });
        });
        const versions: number[][] = [bitsOf(inPlace)];
        from(batches)
          .pipe(scan(inPlace, { threads: 0 }))
          .subscribe(() => versions.push(bitsOf(inPlace)));
        const reader = beside.reader();
        from(batches)
          .pipe(scan(beside, { threads: 0 }))
          .subscribe(({ facts: { version } }) => {
            expect(bitsOf(beside)).toEqual(versions[version]);
            if (steps[version - 1]!.swap) beside.swap();
            reader.read((weights, seen) => {
              const bits = Object.values(weights).flatMap((data) => [...new Uint32Array(data.slice().buffer)]);
              expect(bits).toEqual(versions[seen]);
            });
          });
        reader.close();
        expect(versions).toHaveLength(steps.length + 1);
      }),
    );
  });

  it.each([0, 1, 2])('of a table that a pool steps (%i threads)', async (threads) => {
    const data = numbers(20_000 * WIDTH);
    const steps = Array.from({ length: 9 }, (_, i) =>
      sparse(gradientsFor(Array.from({ length: i % 3 === 2 ? 15_000 : 500 }, (_, j) => (j * 7 + 1000 * i) % 20_000))),
    );
    const expected = model(data);
    await step(expected, momentum, steps);
    const params = model(data);
    const reader = params.reader();
    let updates = 0;
    const updates$ = from(steps).pipe(momentum(params, { lr: 0.1, threads }));
    await lastValueFrom(updates$.pipe(map(() => ++updates % 2 === 0 && params.swap())));
    expect(bitsOf(params)).toEqual(bitsOf(expected));
    reader.close();
  });

  it('also after weights were loaded', async () => {
    const [inPlace, beside] = [model(), model()];
    const reader = beside.reader();
    for (const params of [inPlace, beside]) {
      await step(params, momentum, [sparse(new Map([[3, [1, 2, 3, 4, 5]]]))]);
      params.load({ table: start.map((x) => x + 1) });
      for (const row of [7, 8, 9]) {
        await step(params, momentum, [sparse(new Map([[row, [1, 2, 3, 4, 5]]]))]);
        params.swap();
      }
    }
    expect(bitsOf(beside)).toEqual(bitsOf(inPlace));
    reader.close();
  });
});

describe('rows that do not fit', () => {
  const rows = (indices: readonly number[], dims?: readonly number[], width = WIDTH) => ({
    indices,
    values: new Float32Array(indices.length * width),
    ...(dims ? { dims } : {}),
  });
  /** As from the wire, where any number can come. */
  const numbered = (number: number): GradientBatch => {
    const payload = new Uint8Array([...new Uint8Array(Int32Array.of(number).buffer), ...new Uint8Array(4 * WIDTH)]);
    const tensor = { name: 'table', dims: [1, WIDTH], dtype: 'F32', begin: 4, length: WIDTH } as const;
    const layout = tensorLayout([{ ...tensor, rows: { begin: 0, count: 1, dtype: 'I32' } }], payload.byteLength);
    return new GradientBatch({ layout, payload, facts: {}, delivery: null }, null);
  };

  it.each<[string, GradientBatch, string]>([
    ['behind the last row', numbered(ROWS), 'expected row numbers of "table" from 0 to 22, got 23'],
    ['before the first row', numbered(-1), 'expected row numbers of "table" from 0 to 22, got -1'],
    ['of another width', gradientBatch({ gradients: { table: rows([1], [1, 4], 4) } }), 'with dims [rows,5], got [1,4]'],
    ['of another rank', gradientBatch({ gradients: { table: rows([1], [1, 5, 1]) } }), 'with dims [rows,5], got [1,5,1]'],
    ['of another width, without dims', gradientBatch({ gradients: { table: rows([1, 2], undefined, 4) } }), '8 values in 2 rows'],
    ['of a scalar', gradientBatch({ gradients: { scalar: rows([0], [1], 1) } }), 'with dims [no rows], got [1]'],
    ['of a parameter that is not there', gradientBatch({ gradients: { other: rows([0]) } }), 'got "other"'],
  ])('%s are rejected, and leave all as it is', (_, batch, words) => {
    const params = Parameters.create({ table: { dims: [ROWS, WIDTH], data: start }, scalar: { dims: [] } });
    const rejected: Rejection[] = [];
    const before = bitsOf(params);
    from([batch])
      .pipe(sgd(params, { rejections: { next: (rejection) => rejected.push(rejection) } }))
      .subscribe();
    expect(rejected.map(({ error }) => error.message)).toEqual([expect.stringContaining(words)]);
    expect(bitsOf(params)).toEqual(before);
    expect(params.version).toBe(0);
  });

  it('none at all fit any table', async () => {
    const params = model();
    await step(params, sgd, [gradientBatch({ gradients: { table: rows([]) } })]);
    expect(params.version).toBe(1);
  });
});
