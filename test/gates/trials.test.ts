import { describe, expect, it } from 'vitest';
import { type Decision, Trials, type TrialTerms } from '../../src/gates/trials.ts';

const terms: TrialTerms = { test: 'empiricalBernstein', errorRate: 0.05, margin: 0.1, maxLoss: 1, maxExamples: 1000 };

interface Lost {
  readonly live: number;
  readonly candidate?: number;
  readonly fallback?: number;
}

/** Gives the same losses again and again, until there is a decision. */
function until(trials: Trials, { live, candidate, fallback }: Lost, most = 5000): Decision | null {
  for (let n = 0; n < most; n++) {
    const decision = trials.add({
      live,
      candidate: trials.candidate === null ? null : (candidate ?? null),
      fallback: trials.fallback === null ? null : (fallback ?? null),
    });
    if (decision) return decision;
  }
  return null;
}

it.each(['empiricalBernstein', 'mixtureSprt'] as const)('%s decides both ways', (test) => {
  const trials = new Trials({ ...terms, test }, 1);
  trials.try(2);
  expect(until(trials, { live: 0.5, candidate: 0.9 })!.decision).toBe('rejected');
  trials.try(3);
  expect(until(trials, { live: 0.5, candidate: 0.5 })!.decision).toBe('promoted');
});

function promoted(): Trials {
  const trials = new Trials(terms, 1);
  trials.try(2);
  expect(until(trials, { live: 0.5, candidate: 0.4 })!.decision).toBe('promoted');
  return trials;
}

describe('a candidate', () => {
  it('that is as good goes live, with its numbers, and the one before it is the fallback', () => {
    const trials = new Trials(terms, 1);
    trials.try(2);
    const decision = until(trials, { live: 0.5, candidate: 0.55 })!;
    expect(decision).toMatchObject({
      decision: 'promoted',
      version: 2,
      against: 1,
      loss: expect.closeTo(0.55, 9),
      againstLoss: 0.5,
    });
    expect(decision.difference).toBeCloseTo(0.05, 9);
    expect(decision.high).toBeLessThanOrEqual(terms.margin);
    expect(decision.low).toBeLessThan(decision.difference);
    expect(decision.examples).toBeGreaterThan(20);
    expect([trials.live, trials.candidate, trials.fallback]).toEqual([2, null, 1]);
  });

  it('that is worse by more than the margin is rejected', () => {
    const trials = new Trials(terms, 1);
    trials.try(2);
    const decision = until(trials, { live: 0.5, candidate: 0.7 })!;
    expect(decision).toMatchObject({ decision: 'rejected', version: 2, against: 1 });
    expect(decision.low).toBeGreaterThanOrEqual(terms.margin);
    expect([trials.live, trials.candidate, trials.fallback]).toEqual([1, null, null]);
  });

  it('that is worse by just the margin is undecided in the end', () => {
    const trials = new Trials(terms, 1);
    trials.try(2);
    expect(until(trials, { live: 0.5, candidate: 0.6 })).toMatchObject({ decision: 'undecided', examples: 1000 });
    expect([trials.live, trials.candidate]).toEqual([1, null]);
  });

  it('whose loss is not a number lost the most', () => {
    const trials = new Trials(terms, 1);
    trials.try(2);
    expect(until(trials, { live: 0.5, candidate: Number.NaN })).toMatchObject({ decision: 'rejected', loss: 1 });
    trials.try(3);
    expect(until(trials, { live: 0.5, candidate: Number.POSITIVE_INFINITY })).toMatchObject({ decision: 'rejected', loss: 1 });
  });

  it('is dropped undecided where no more examples come', () => {
    const trials = new Trials(terms, 1);
    expect(trials.giveUp()).toBeNull();
    trials.try(2);
    expect(trials.giveUp()).toMatchObject({ decision: 'undecided', examples: 0, low: -1, high: 1 });
    trials.try(2);
    trials.add({ live: 0, candidate: 0, fallback: null });
    expect(trials.giveUp()).toMatchObject({ decision: 'undecided', version: 2, examples: 1 });
    expect(trials.candidate).toBeNull();
  });

  it('does not go down in steps that are each within the margin: it has to pass the fallback too', () => {
    const trials = new Trials(terms, 1);
    trials.try(2);
    expect(until(trials, { live: 0.4, candidate: 0.48 })!.decision).toBe('promoted');
    trials.try(3);
    const decision = until(trials, { live: 0.48, candidate: 0.56, fallback: 0.4 })!;
    expect(decision).toMatchObject({ decision: 'rejected', version: 3, against: 1 });
    expect([trials.live, trials.fallback]).toEqual([2, 1]);
  });
});

describe('a live version', () => {
  it('that is shown to be better than the fallback needs it no more; the next promotion makes it the fallback', () => {
    const trials = promoted();
    const decision = until(trials, { live: 0.4, fallback: 0.5 })!;
    expect(decision).toMatchObject({ decision: 'confirmed', version: 2, against: 1 });
    expect(decision.high).toBeLessThanOrEqual(0);
    expect(trials.fallback).toBeNull();
    trials.try(3);
    expect(until(trials, { live: 0.4, candidate: 0.4 })!.decision).toBe('promoted');
    expect([trials.live, trials.fallback]).toEqual([3, 2]);
  });

  it('that turns out worse by more than the margin is rolled back, and the candidate on trial goes', () => {
    const trials = promoted();
    trials.try(3);
    expect(until(trials, { live: 0.8, candidate: 0.75, fallback: 0.5 })).toMatchObject({
      decision: 'rolledBack',
      version: 2,
      against: 1,
    });
    expect([trials.live, trials.candidate, trials.fallback]).toEqual([1, null, null]);
  });

  it('is watched anew after so many examples, so that what was good before hides no change', () => {
    const trials = promoted();
    expect(until(trials, { live: 0.5, fallback: 0.5 }, 999)).toBeNull();
    expect(until(trials, { live: 0.5, fallback: 0.5 }, 1)).toBeNull();
    const decision = until(trials, { live: 0.8, fallback: 0.5 })!;
    expect(decision).toMatchObject({ decision: 'rolledBack' });
    // As if it had just gone live.
    expect(decision.examples).toBe(until(promoted(), { live: 0.8, fallback: 0.5 })!.examples);
  });

  it('keeps its fallback over further promotions until it is confirmed', () => {
    const trials = promoted();
    trials.try(3);
    expect(until(trials, { live: 0.5, candidate: 0.5, fallback: 0.5 })!.decision).toBe('promoted');
    expect([trials.live, trials.fallback]).toEqual([3, 1]);
  });
});
