import {
  adam,
  clipByValue,
  gradientBatch,
  metricReport,
  momentum,
  Parameters,
  reduceLROnPlateau,
  rmsprop,
  sgd,
  stepLR,
  type TrainingEvent,
  type WeightsUpdate,
} from 'rxgrad';
import { from, of } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { Groups } from '../../src/optimizers/groups.ts';
import { OptimizerState } from '../../src/optimizers/optimizer-state.ts';
import { Outliers } from '../../src/optimizers/outliers.ts';
import { misfitOf, planFor } from '../../src/optimizers/plan.ts';
import { Rates } from '../../src/optimizers/rates.ts';
import type { Rule } from '../../src/optimizers/rule.ts';
import { Shapes } from '../../src/optimizers/shapes.ts';
import { Spread } from '../../src/optimizers/spread.ts';
import { readTensorFile } from '../../src/params/tensor-file.ts';
import { batch, model } from './batches.ts';

describe('rates', () => {
  const plateau = (metric?: string) => reduceLROnPlateau({ baseLr: 1, patience: 0, factor: 0.5, ...(metric ? { metric } : {}) });
  const step = () => stepLR({ baseLr: 4, stepSize: 1, gamma: 0.5 });

  it('are those of each schedule, which tick together', () => {
    const rates = new Rates([step(), stepLR({ baseLr: 3, stepSize: 2, gamma: 0.1 })]);
    expect([rates.size, rates.lrs, rates.epochs]).toEqual([2, [4, 3], 0]);
    rates.tick();
    rates.endEpoch();
    expect([rates.lrs, rates.epochs]).toEqual([[2, 3], 1]);
    rates.tick();
    expect([rates.lrs[0], rates.epochs]).toEqual([1, 1]);
    expect(rates.lrs[1]).toBeCloseTo(0.3);
  });

  it('look at the metric that they name, of what was reported since they ticked', () => {
    const rates = new Rates([plateau('loss'), plateau('error')]);
    for (const [metric, value] of [
      ['loss', 1],
      ['error', 5],
      ['other', 9],
    ] as const)
      rates.report(metric, value);
    expect(rates.state().metrics).toEqual([
      ['loss', '1'],
      ['error', '5'],
    ]);
    rates.tick();
    expect(rates.state().metrics).toEqual([]);
    rates.report('loss', 2);
    rates.report('loss', 3);
    rates.report('error', 4);
    rates.tick();
    expect(rates.lrs).toEqual([0.5, 1]);
    expect(rates.state().watched).toBeUndefined();
  });

  it('look at the one metric that there is, where they name none, and fail where there is another', () => {
    const rates = new Rates([step(), plateau()]);
    rates.report('loss', Number.NaN);
    rates.report('loss', 1);
    expect(rates.state()).toMatchObject({ watched: 'loss', metrics: [['loss', '1']] });
    expect(() => rates.report('other', 1)).toThrow(expect.objectContaining({ code: 'RXGRAD_AMBIGUOUS_METRIC' }));
    rates.tick();
    rates.report('loss', 2);
    rates.tick();
    expect(rates.lrs).toEqual([1, 0.5]);
    expect(() => new Rates([step()]).report('any', 1)).not.toThrow();
  });

  it('go on from their state, and know the metric that they look at where they name none', () => {
    const first = new Rates([step(), plateau()]);
    first.report('loss', 1);
    first.tick();
    first.endEpoch();
    first.report('loss', Number.POSITIVE_INFINITY);
    const state = JSON.parse(JSON.stringify(first.state()));
    const second = new Rates([step(), plateau()]);
    second.restore(state);
    expect([second.state(), second.epochs, second.lrs]).toEqual([first.state(), 1, [2, 1]]);
    expect(() => second.report('other', 1)).toThrow(/loss/);
    second.tick();
    expect(second.lrs).toEqual([1, 0.5]);
    const named = new Rates([step(), plateau('other')]);
    named.restore(state);
    named.report('other', 1);
    expect(named.state().watched).toBeUndefined();
  });
});

describe('groups', () => {
  it('number the schedules of parameters, and frozen ones −1', () => {
    const params = model();
    const groups = new Groups(params, 0.1, [
      { params: 'a', lr: 0.2, frozen: false },
      { params: ['c'], frozen: true },
    ]);
    expect([groups.indices, groups.schedules.map(({ lr }) => lr)]).toEqual([
      [1, 0, -1],
      [0.1, 0.2],
    ]);
    expect([0, 1, 2].map((i) => [groups.scheduleIndex(i), groups.isFrozen(i)])).toEqual([
      [1, false],
      [0, false],
      [0, true],
    ]);
  });

  it('may name a parameter twice in one, and none in two', () => {
    const make = (...groups: string[][]) =>
      new Groups(
        model(),
        0.1,
        groups.map((params) => ({ params, frozen: true })),
      );
    expect(make(['a', '*']).indices).toEqual([-1, -1, -1]);
    expect(() => make(['b'], ['*'])).toThrow(
      /groups\.1\.params: expected each parameter in one group \("b" is in group 0 already\), got "\*"/,
    );
    expect(() => make(['d'])).toThrow(/matches a parameter \(a, b, c\), got "d"/);
  });
});

describe('the state of a rule', () => {
  const rule = (state: Rule['state']): Rule => ({ name: 'Test', state, passes: [] }) as unknown as Rule;
  const params = () => Parameters.create({ a: { dims: [2, 3], data: [1, 2, 3, 4, 5, 6] }, b: { dims: [0] }, c: { dims: [] } });
  const slots = rule([
    { name: 'ones', initial: 1 },
    { name: 'made', key: 'torch_name', initial: (lr: number, w: number) => lr * w },
    { name: 'rows', dims: (dims: readonly number[]) => dims.slice(0, 1) },
    { name: 'aside', scratch: true },
  ] as unknown as Rule['state']);

  it('begins as the rule says, at a place of its own for each parameter', () => {
    const state = new OptimizerState(params(), slots, (index) => index + 2);
    const [a] = state.places;
    expect([...a!.views.ones!]).toEqual([1, 1, 1, 1, 1, 1]);
    expect([...a!.views.made!]).toEqual([2, 4, 6, 8, 10, 12]);
    expect([...a!.views.rows!, a!.dims[2]]).toEqual([0, 0, [2]]);
    const addresses = state.places.flatMap(({ addresses }) => addresses);
    expect(addresses.every((address) => address % 64 === 0)).toBe(true);
    expect(state.places.map(({ views }) => views.ones!.length)).toEqual([6, 0, 1]);
  });

  it('is kept by its names elsewhere, without what means nothing or has no elements', () => {
    const state = new OptimizerState(params(), slots, () => 1);
    expect(state.tensors().map(({ parameter, key, dims }) => [parameter, key, dims])).toEqual([
      ['a', 'ones', [2, 3]],
      ['a', 'torch_name', [2, 3]],
      ['a', 'rows', [2]],
      ['c', 'ones', []],
      ['c', 'torch_name', []],
      ['c', 'rows', []],
    ]);
  });

  it('goes on from tensors and counts of steps, and names all that does not fit', () => {
    const small = rule([{ name: 'ones', initial: 1 }]);
    const tensor = (parameter: string, key: string, dims: number[], value: number) => ({
      parameter,
      key,
      dims,
      data: new Float32Array(dims.reduce((size, dim) => size * dim, 1)).fill(value),
    });
    const state = new OptimizerState(params(), small, () => 1);
    const given = [
      tensor('a', 'ones', [2, 2], 5),
      tensor('a', 'other', [1], 5),
      tensor('a', 'step', [], 7),
      tensor('c', 'step', [0], 7),
    ];
    expect(() => state.restore({ tensors: given, strict: true })).toThrow(
      /"a\.ones" has dims \[2,3\], got \[2,2\]; the state of Test has "c\.ones" \[\], which is missing; "a\.other" is no state of Test/,
    );
    state.restore({ tensors: [...given, tensor('c', 'ones', [1], 9)], strict: false });
    expect([...state.counts, ...state.places[0]!.views.ones!, ...state.places[2]!.views.ones!]).toEqual([
      7, 0, 0, 1, 1, 1, 1, 1, 1, 9,
    ]);
    state.restore({ tensors: [tensor('a', 'ones', [2, 3], 5), tensor('c', 'ones', [], 6)], strict: true });
    expect([...state.places[0]!.views.ones!]).toEqual([5, 5, 5, 5, 5, 5]);
  });

  it.each([
    ['Adam', adam],
    ['RMSprop', rmsprop],
  ] as const)('of %s has a view for each parameter that the file has', (_, scan) => {
    const trained = params();
    of(gradientBatch({ gradients: { a: new Float32Array(6).fill(1) } }))
      .pipe(scan(trained))
      .subscribe();
    const { tensors } = readTensorFile(trained.stateDict());
    for (const [name, { dims }] of tensors) {
      if (name.startsWith('state.')) expect(dims).toEqual(trained.get(name.split('.')[1]!).dims);
    }
  });
});

describe('a plan', () => {
  const params = Parameters.create({ t: { dims: [4, 3] }, s: { dims: [] }, b: { dims: [2] } });
  const layout = (gradients: Parameters_<typeof gradientBatch>['gradients']) => gradientBatch({ gradients }).message.layout;

  it('has what is stepped, what is frozen, and what stays', () => {
    const rows = { indices: [1, 3], values: new Float32Array(6) };
    const plan = planFor(params, layout({ t: rows, b: new Float32Array(2) }), (index) => index === 2);
    if (typeof plan === 'function') throw plan('a test');
    expect(plan.runs).toMatchObject([{ index: 0, rows: { tensor: 0, width: 3 } }]);
    expect(plan.frozen).toMatchObject([{ index: 2, rows: null }]);
    expect(plan.untouched.map(({ index }) => index)).toEqual([1, 2]);
  });

  it.each([
    [{ dims: [4, 3], length: 12 }, [4, 3], null],
    [{ dims: null, length: 12 }, [4, 3], null],
    [{ dims: [3, 4], length: 12 }, [4, 3], '4,3 3,4'],
    [{ dims: [4], length: 4 }, [4, 1], '4,1 4'],
    [{ dims: null, length: 11 }, [4, 3], '4,3 11'],
    [{ dims: [4, 3], length: 11 }, [4, 3], '4,3 11 values'],
    [{ dims: [2, 3], length: 6, rows: { count: 2 } }, [4, 3], null],
    [{ dims: null, length: 6, rows: { count: 2 } }, [4, 3], null],
    [{ dims: [2, 4], length: 8, rows: { count: 2 } }, [4, 3], 'rows,3 2,4'],
    [{ dims: null, length: 8, rows: { count: 2 } }, [4, 3], 'rows,3 8 values in 2 rows'],
    [{ dims: [0, 7], length: 0, rows: { count: 0 } }, [4, 3], null],
    [{ dims: null, length: 0, rows: { count: 0 } }, [], 'no rows 0 values in 0 rows'],
    [{ dims: [2], length: 2, rows: { count: 2 } }, [4], null],
  ])('%j for a parameter of %j: %s', (tensor, own, expected) => {
    const misfit = misfitOf(tensor as never, own);
    expect(misfit && `${misfit.expected} ${misfit.got}`).toBe(expected);
  });
});

describe('outliers', () => {
  const outliers = (policy: 'warn' | 'reject') => new Outliers({ policy, window: 4, factor: 1, floor: 0.1, after: 2 });
  const see = (one: Outliers, norm: number, declared?: number) => {
    const refused = one.admit(declared, norm * norm)?.('here').message ?? null;
    return [refused, refused === null ? one.applied()?.norm : undefined];
  };

  it('are judged once enough were applied, each once, by what is declared where that is a norm', () => {
    const one = outliers('warn');
    expect([see(one, 1), see(one, 2), see(one, 100), see(one, 2)]).toEqual([
      [null, undefined],
      [null, undefined],
      [null, 100],
      [null, undefined],
    ]);
    expect(see(one, 1, 100)).toEqual([null, 100]);
    expect(one.state()).toEqual([2, 100, 2, 100].map(Math.log));
    const other = outliers('reject');
    for (const norm of [1, 2]) see(other, norm);
    expect(see(other, 100)[0]).toMatch(/^here: expected a gradient norm of at most/);
    expect(see(other, 1, 100)[0]).toMatch(/got 100/);
    expect(see(other, 100, -1)[0]).toMatch(/got 100/);
    expect(see(other, 100, 1)).toEqual([null, undefined]);
    expect(see(other, 0)).toEqual([null, undefined]);
    expect(other.state()).toEqual([1, 2, 1].map(Math.log));
    other.restore([0, 0, 0, 0, 0]);
    expect(other.state()).toEqual([0, 0, 0, 0]);
  });
});

describe('room in the arena', () => {
  it('for shapes has rank and dims of each', () => {
    const params = Parameters.create({ a: { dims: [2, 3] }, b: { dims: [] }, c: { dims: [7] } });
    const shapes = new Shapes(params);
    const read = (index: number, count: number) => [
      ...new Uint32Array(params.arena.memory.buffer, shapes.addresses[index], count),
    ];
    expect([read(0, 3), read(1, 1), read(2, 2)]).toEqual([[2, 2, 3], [0], [1, 7]]);
  });

  it('for rows of a table is zeros each time, and beside nothing else', () => {
    const params = Parameters.create({ a: { dims: [40] }, b: { dims: [50] } });
    const spread = new Spread(params);
    const [a, b] = [spread.zeros(0), spread.zeros(1)];
    expect(a).not.toBe(b);
    for (const [index, address, length] of [
      [0, a, 40],
      [1, b, 50],
    ] as const) {
      params.arena.floats(address, length).fill(3);
      expect(spread.zeros(index)).toBe(address);
      expect([...params.arena.floats(address, length)]).toEqual(Array(length).fill(0));
    }
    params.arena.floats(a, 40).fill(3);
    spread.zeros(1);
    expect(params.arena.floats(a, 40)[39]).toBe(3);
  });
});

it('stages may be others than those that a state was made with, unless it is to be gone on with exactly', () => {
  const source = model();
  of<TrainingEvent>(batch(1)).pipe(clipByValue(1), sgd(source)).subscribe();
  const goOn = (exact: boolean): string => {
    const params = model();
    params.loadStateDict(source.stateDict(), { exact });
    let outcome = '';
    of<TrainingEvent>(batch(1))
      .pipe(sgd(params))
      .subscribe({ next: ({ step }) => (outcome = `step ${step}`), error: ({ message }: Error) => (outcome = message) });
    return outcome;
  };
  expect(goOn(false)).toBe('step 2');
  expect(goOn(true)).toContain('the stages in front were clipByValue(1), and are none');
});

it('an update tells all that is known of its step, and lends the newest weights', () => {
  const params = model();
  const updates: WeightsUpdate[] = [];
  const weights: number[] = [];
  from<TrainingEvent[]>([batch(1), metricReport({ name: 'm', value: 1 }), batch(-2, { base: 0 })])
    .pipe(momentum(params, { lr: 0.25 }))
    .subscribe((update) => {
      updates.push(update);
      weights.push(update.weights.c![0]!);
    });
  const [first, second] = updates;
  expect(second).toMatchObject({
    kind: 'update',
    version: 2,
    step: 2,
    epoch: 0,
    lr: 0.25,
    clipped: false,
    staleness: 1,
    position: null,
  });
  expect(second!.gradientNorm).toBeCloseTo(2 * first!.gradientNorm);
  expect(second!.durationMs).toBe(second!.facts.durationMs);
  expect(second!.durationMs).toBeGreaterThan(0);
  expect([first!.staleness, first!.average, first!.kept, first!.swapMs, first!.params]).toEqual([
    undefined,
    null,
    null,
    undefined,
    params,
  ]);
  expect(weights).toEqual([6.75, Math.fround(6.75 - 0.25 * (0.9 - 2))]);
});

it('an average says so, and state without steps has no stages', () => {
  const into = model();
  const seen: unknown[] = [];
  of(batch(1))
    .pipe(sgd(into.twin(), { average: { into } }))
    .subscribe(({ average }) => seen.push(average));
  expect(seen).toEqual([into]);
  const params = model();
  of<TrainingEvent[]>(metricReport({ name: 'm', value: 1 }))
    .pipe(sgd(params))
    .subscribe();
  const factsOf = (of: Parameters) => JSON.parse(readTensorFile(of.stateDict()).metadata['rxgrad.state']!);
  expect(factsOf(params)).toMatchObject({ steps: 0, counts: [0, 0, 0], rule: 'SGD' });
  for (const name of ['stages', 'history', 'norms', 'averaged']) expect(factsOf(params)).not.toHaveProperty(name);
  of(batch(1)).pipe(sgd(params)).subscribe();
  expect(factsOf(params)).toMatchObject({ steps: 1, counts: [1, 1, 1], stages: [] });
});

type Parameters_<F extends (...args: never[]) => unknown> = F extends (...args: infer A) => unknown ? A[0] : never;
