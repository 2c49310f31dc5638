import { describe, expect, it } from 'vitest';
import { chooseStrategy } from '../../../src/inference/choosing/strategy-choice.ts';

const figures = { batch: 32, inputsMs: 2, rebuildMs: 1.2, buildMs: 5 };
const load = { swapEveryMs: 20, versionsPerMs: 0.05 };
const limits = { workers: 1, ms: undefined, versions: undefined, isUploaded: false };

function taken(changes: {
  figures?: Partial<typeof figures>;
  load?: Partial<typeof load>;
  limits?: Partial<{ workers: number; ms: number; versions: number; isUploaded: boolean }>;
  current?: 'inputs' | 'rebuild';
}): string {
  const { current = 'inputs' } = changes;
  return chooseStrategy(
    { ...figures, ...changes.figures },
    { ...load, ...changes.load },
    { ...limits, ...changes.limits },
    current,
  ).taken;
}

describe('chooses rebuild', () => {
  it('where it takes clearly less time and builds fit', () => {
    expect(taken({})).toBe('rebuild');
    expect(taken({ figures: { rebuildMs: 1.79 } })).toBe('rebuild');
  });

  it('of another provider than the CPU where it takes any less', () => {
    expect(taken({ figures: { rebuildMs: 1.99 }, limits: { isUploaded: true } })).toBe('rebuild');
    expect(taken({ figures: { rebuildMs: 2.01 }, limits: { isUploaded: true } })).toBe('inputs');
  });

  it('where builds are long and swaps rare', () => {
    expect(taken({ figures: { buildMs: 700 }, load: { swapEveryMs: 60_000 } })).toBe('rebuild');
    expect(taken({ figures: { buildMs: 700 }, load: { swapEveryMs: Infinity, versionsPerMs: 0 } })).toBe('rebuild');
  });
});

describe('chooses inputs', () => {
  it.each([
    ['it takes not clearly less time', { figures: { rebuildMs: 1.85 } }],
    ['it takes more', { figures: { rebuildMs: 3 } }],
    ['builds are too long for the swaps', { figures: { buildMs: 400 } }],
    ['weights may not be so stale', { load: { swapEveryMs: 5 }, limits: { ms: 14 } }],
    ['versions may not be so far behind', { figures: { buildMs: 50 }, limits: { versions: 7 } }],
    ['many threads would build more than half of a core can', { figures: { buildMs: 150 }, limits: { workers: 4 } }],
  ])('where %s', (_, changes) => {
    expect(taken(changes)).toBe('inputs');
  });
});

it('stays with what is in use near a border', () => {
  const near = { figures: { rebuildMs: 1.9 } };
  expect(taken({ ...near, current: 'inputs' })).toBe('inputs');
  expect(taken({ ...near, current: 'rebuild' })).toBe('rebuild');
  const slow = { figures: { buildMs: 360 } };
  expect(taken({ ...slow, current: 'inputs' })).toBe('inputs');
  expect(taken({ ...slow, current: 'rebuild' })).toBe('rebuild');
});

it('leaves half of a core between builds', () => {
  expect(chooseStrategy(figures, load, { ...limits, workers: 2 }, 'inputs').pauseMs).toBe(15);
});

it('says why, in figures', () => {
  expect(chooseStrategy(figures, load, limits, 'inputs').reason).toBe(
    'rebuild takes 1.2 ms a run of 32 rows, inputs 2 (0.6 of it), and a build takes 5 ms, with a swap every 20 ms',
  );
  const none = { swapEveryMs: Infinity, versionsPerMs: 0 };
  expect(chooseStrategy({ ...figures, batch: 1, rebuildMs: 3 }, none, limits, 'inputs').reason).toBe(
    'rebuild takes 3 ms a run of 1 row, inputs 2 (1.5 of it), which is not below 0.9',
  );
  expect(chooseStrategy(figures, { ...load, swapEveryMs: 5 }, { ...limits, ms: 10 }, 'inputs').reason).toMatch(
    /, but a build takes 5 ms, so that weights would be up to 15 ms behind, above 10 \(a swap every 5 ms\)$/,
  );
});
