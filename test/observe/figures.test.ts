import { nextFigures, noFigures, type Observation } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { RxgradError } from '../../src/errors.ts';
import { gradientBatch, rejection } from '../../src/events.ts';

const batch = gradientBatch({ gradients: { w: Float32Array.of(1) } });
const step = (facts: object): Observation => ({
  kind: 'step',
  at: 'Momentum',
  version: 1,
  step: 1,
  epoch: 0,
  lr: 0.1,
  gradientNorm: 1,
  clipped: false,
  staleness: undefined,
  position: null,
  durationMs: 1,
  ...facts,
});
const rejected = (key: 'notFinite' | 'emptyBatch'): Observation => ({
  kind: 'rejection',
  at: 'Momentum',
  rejection: rejection(new RxgradError(key as 'emptyBatch', { where: 'g/0@1' }), null),
});
const after = (...observations: Observation[]) => observations.reduce(nextFigures, noFigures);

describe('figures', () => {
  it('hold nothing that nobody reported', () => {
    expect(Object.values(noFigures).filter((value) => value !== null)).toEqual([0, 0, {}, 0, 0, 0, {}, {}]);
  });

  it('take the last step’s facts, and keep a staleness that was not said again', () => {
    const figures = after(
      step({ staleness: 4, durationMs: 2 }),
      step({ version: 9, lr: 0.05, gradientNorm: 3, durationMs: 0.5 }),
    );
    expect(figures).toMatchObject({ batches: 2, version: 9, lr: 0.05, gradientNorm: 3, stepMs: 0.5, staleness: 4 });
  });

  it('tell the share of applied batches that were clipped', () => {
    const shares = [true, false, true, true].map((_, i, all) =>
      after(...all.slice(0, i + 1).map((clipped) => step({ clipped }))),
    );
    expect(shares.map(({ clippedShare }) => clippedShare)).toEqual([1, 0.5, expect.closeTo(2 / 3, 12), expect.closeTo(0.75, 12)]);
  });

  it('count what gates decide', () => {
    const facts = { at: 'm', version: 2, against: 1, live: 2, fallback: 1, examples: 9, loss: 0, againstLoss: 0 };
    const numbers = {
      difference: 0,
      low: -1,
      high: 1,
      margin: 1,
      errorRate: 0.05,
      test: 't',
      position: null,
      missed: 0,
      failures: 0,
    };
    const decided = (decision: 'promoted' | 'rejected'): Observation => ({ kind: 'gate', decision, ...facts, ...numbers });
    const figures = after(decided('promoted'), decided('rejected'), decided('promoted'));
    expect(figures.decisions).toEqual({ promoted: 2, rejected: 1 });
  });

  it('count a batch once, however many stages report it', () => {
    const stages = ['clipByGlobalNorm', 'clipByValue'].map((at): Observation => ({ kind: 'stage', at, batch }));
    expect(after(...stages, step({ clipped: true }))).toMatchObject({ batches: 1, clippedShare: 1 });
  });

  it('keep the last norm where a batch has none', () => {
    const figures = after(
      { kind: 'batch', at: 'tapMetrics', batch, gradientNorm: 5 },
      { kind: 'batch', at: 'tapMetrics', batch, gradientNorm: undefined },
    );
    expect(figures).toMatchObject({ batches: 2, gradientNorm: 5, clippedShare: null });
  });

  it('count rejections by reason', () => {
    expect(after(rejected('emptyBatch'), rejected('notFinite'), rejected('emptyBatch')).rejections).toEqual({
      emptyBatch: 2,
      notFinite: 1,
    });
  });

  it('count epochs, swaps and predictions', () => {
    const figures = after(
      { kind: 'epoch', at: 'Momentum', epoch: 1, lr: 0.01 },
      { kind: 'epoch', at: 'tapMetrics', epoch: 2 },
      { kind: 'swap', at: 'hotSwap', version: 7, durationMs: 0.25 },
      { kind: 'prediction', at: 'model', version: 7, durationMs: 3 },
      { kind: 'prediction', at: 'model', version: 8, durationMs: 4 },
    );
    expect(figures).toMatchObject({ epochs: 2, lr: 0.01, swapMs: 0.25, predictions: 2, predictionMs: 4, version: 8 });
  });

  it('leave the figures before them as they were', () => {
    const before = after(step({}), rejected('emptyBatch'));
    const copy = structuredClone(before);
    nextFigures(before, rejected('emptyBatch'));
    expect(before).toEqual(copy);
  });
});
