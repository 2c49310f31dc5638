import { describe, expect, it } from 'vitest';
import { type Recipe, recipeDifferences, recipeOf, stageDifferences, stagesOf } from '../../src/optimizers/recipe.ts';
import { differencesOf, inOrderOf, placeBefore, type ScanFacts } from '../../src/optimizers/scan-facts.ts';
import { positive } from '../../src/options.ts';
import { type PerParameter, parseSetting, type Setting } from '../../src/setting.ts';

const perParameter = (setting: Setting): PerParameter => parseSetting(positive, setting, 'a test', 1);

const facts: ScanFacts = {
  rule: 'Adam',
  steps: 5,
  counts: [3, 4],
  averaged: [1, 2],
  epochs: 0,
  once: { epoch: -1, partitions: [] },
  positions: [],
  schedules: [{ ticks: 0 }],
  groups: [0, -1],
  metrics: [],
};
const recipe: Recipe = { optimizer: 'adam', options: { lr: 0.1 } };
const shape = { rule: 'Adam', names: ['a', 'b'], groups: [0, -1], recipe };

describe('facts in the order of other parameters', () => {
  it('list the same of each, and no steps of those that the state does not know', () => {
    expect(inOrderOf(facts, ['b', 'c', 'a'], ['a', 'b'])).toEqual({
      ...facts,
      counts: [4, 0, 3],
      groups: [-1, 0, 0],
      averaged: [2, 0, 1],
    });
    const { averaged: _, ...plain } = facts;
    expect(inOrderOf(plain, ['b', 'a'], ['a', 'b'])).toEqual({ ...plain, counts: [4, 3], groups: [-1, 0] });
  });

  it.each([
    ['counts', { counts: [1] }],
    ['groups', { groups: [0, 0, 0] }],
    ['averaged', { averaged: [] }],
  ])('are refused where %s are not as many as parameters', (name, wrong) => {
    const got = Object.values(wrong)[0]!.length;
    expect(() => inOrderOf({ ...facts, ...wrong }, ['a', 'b'], ['a', 'b'])).toThrow(
      expect.objectContaining({
        code: 'RXGRAD_INVALID_CHECKPOINT',
        message: `state dict: expected ${name} of its 2 parameters, got ${got}`,
      }),
    );
  });
});

describe('a state that does not fit a scan', () => {
  const differing = (own: object, kept = ['a', 'b'], exact = false) =>
    differencesOf(facts, { ...shape, ...own }, new Set(kept), exact);

  it('says all in which it differs', () => {
    expect(differing({})).toEqual([]);
    expect(differing({ rule: 'SGD' })).toEqual(['the state is of Adam, the scan of SGD']);
    expect(differing({ names: ['a', 'c'], groups: [1, 0] })).toEqual([
      'the state knows no "c"',
      'the state is of "b", too',
      '"a" is stepped at the rate of all in the state, stepped at rate 1 of those that groups have in the scan',
    ]);
    expect(differing({ groups: [-1, 0] })).toEqual([
      '"a" is stepped at the rate of all in the state, frozen in the scan',
      '"b" is frozen in the state, stepped at the rate of all in the scan',
    ]);
  });

  it('differs in its options where those have to be the same, and are of the same rule', () => {
    const other = { recipe: { optimizer: 'adam', options: { lr: 0.2 } } };
    const said = (rule: string, exact: boolean, was: Recipe | undefined) =>
      differencesOf({ ...facts, ...(was ? { recipe: was } : {}) }, { ...shape, ...other, rule }, new Set(['a', 'b']), exact);
    expect(said('Adam', true, recipe)).toEqual(['lr was 0.1, and is 0.2']);
    expect(said('Adam', false, recipe)).toEqual([]);
    expect(said('Adam', true, undefined)).toEqual([]);
    expect(said('SGD', true, recipe)).toHaveLength(1);
  });
});

describe('a state from before the first step', () => {
  it('has a place in the log, maybe, and one that a scan has run on has none', () => {
    const log = { topics: [['g', 'id']] as [string, string][], last: [] };
    expect(placeBefore({ positions: [['g', 0, 5]], log })).toEqual({ positions: [['g', 0, 5]], log });
    expect(placeBefore({})).toEqual({ positions: [], log: undefined });
    expect(placeBefore({ rule: 'Adam', positions: [['g', 0, 5]] })).toBeNull();
    expect(() => placeBefore({ positions: 5 })).toThrow(/state dict: positions/);
  });
});

describe('a recipe', () => {
  const kept = (options: object) => recipeOf('sgd', options as Record<string, unknown>).options;

  it('has what changes the weights, and nothing else', () => {
    const none = { rejections: {}, maxRejectionsInARow: 5, threads: 2, momentum: undefined, outliers: { policy: 'warn' } };
    expect(kept({ ...none, nesterov: false, outliers: { policy: 'reject', factor: 9 } })).toEqual({
      nesterov: false,
      outliers: { policy: 'reject', factor: 9 },
    });
    expect(kept(none)).toEqual({});
    expect(recipeOf('sgd', {}).optimizer).toBe('sgd');
  });

  it('has rates as plain data, of groups too, and of a function its first value', () => {
    expect(kept({ lr: 0.5 })).toEqual({ lr: 0.5 });
    expect(kept({ lr: (ticks: number) => 0.25 / (1 + ticks) })).toEqual({ lr: { baseLr: 0.25 } });
    const groups = [
      { params: 'a', lr: { type: 'StepLR', stepSize: 2 }, frozen: false },
      { params: 'b', frozen: true },
    ];
    expect(kept({ groups })).toEqual({
      groups: [{ params: 'a', lr: { type: 'StepLR', stepSize: 2 }, frozen: false }, groups[1]],
    });
  });

  it('has how an average is made, not what takes it', () => {
    expect(kept({ average: { into: {}, decay: 0.5, after: 3 } })).toEqual({ average: { decay: 0.5, after: 3 } });
  });

  it('differs by name, whatever order its options are in', () => {
    const was = { optimizer: 'sgd', options: { lr: { a: 1, b: [2, { d: 3, c: 4 }] }, momentum: 0.9 } };
    expect(
      recipeDifferences(was, { optimizer: 'sgd', options: { momentum: 0.9, lr: { b: [2, { c: 4, d: 3 }], a: 1 } } }),
    ).toEqual([]);
    expect(recipeDifferences(was, { optimizer: 'adam', options: {} })).toEqual(['the optimizer was sgd, and is adam']);
    expect(recipeDifferences(was, { optimizer: 'sgd', options: { lr: { a: 1, b: [{ d: 3, c: 4 }, 2] }, eps: 1 } })).toEqual([
      'lr was {"a":1,"b":[2,{"c":4,"d":3}]}, and is {"a":1,"b":[{"c":4,"d":3},2]}',
      'momentum was 0.9, and is undefined',
      'eps was undefined, and is 1',
    ]);
  });
});

describe('stages in front of a scan', () => {
  const clip = { op: 'clipByGlobalNorm', maxNorm: perParameter(1) } as const;
  const limit = { op: 'clipByValue', limit: perParameter({ b: 2, '*': 3 }) } as const;
  const decay = { op: 'addDecayedWeights', decay: perParameter(0.5), params: null } as const;
  const drop = { op: 'staleness', policy: { type: 'drop', above: 4 } } as const;
  const merged = { op: 'accumulate', size: 4, applyAtEnd: true, asked: [clip, drop] } as const;

  it('are written down in their order, each with what it was given', () => {
    expect(stagesOf([clip, limit, decay, drop])).toEqual([
      ['clipByGlobalNorm', 1],
      ['clipByValue', { b: 2, '*': 3 }],
      ['addDecayedWeights', 0.5],
      ['staleness', { type: 'drop', above: 4 }],
    ]);
    expect(stagesOf([])).toEqual([]);
  });

  it('have those in them that the parts of a merged batch came through, once', () => {
    const stages = [
      ['clipByGlobalNorm', 1],
      ['staleness', { type: 'drop', above: 4 }],
      ['accumulate', { size: 4, applyAtEnd: true }],
      ['addDecayedWeights', 0.5],
    ];
    expect(stagesOf([merged, decay])).toEqual(stages);
    expect(stagesOf([drop, merged, decay])).toEqual(stages);
  });

  it('differ by what was, and is', () => {
    const [was, is] = [stagesOf([clip, limit]), stagesOf([clip])];
    expect(stageDifferences(was, was)).toEqual([]);
    expect(stageDifferences(was, is)).toEqual([
      'the stages in front were clipByGlobalNorm(1) → clipByValue({"*":3,"b":2}), and are clipByGlobalNorm(1)',
    ]);
    expect(stageDifferences([], is)).toEqual(['the stages in front were none, and are clipByGlobalNorm(1)']);
    expect(stageDifferences(is, [])).toEqual(['the stages in front were clipByGlobalNorm(1), and are none']);
  });
});
