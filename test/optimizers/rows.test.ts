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
  sgd,
  type TrainingEvent,
} from 'rxgrad';
import { identity, map, pipe } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { bitsOf, type Scan, scans } from './batches.ts';
import {
  type Between,
  dense,
  gradientsFor,
  model,
  ROWS,
  rowOf,
  rowsAt,
  sparse,
  spread,
  start,
  step,
  WIDTH,
} from './touched-rows.ts';

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
