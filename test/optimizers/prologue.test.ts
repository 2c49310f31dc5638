import {
  accumulate,
  addDecayedWeights,
  clipByGlobalNorm,
  clipByValue,
  type GradientBatch,
  gradientBatch,
  staleness,
  type TrainingEvent,
} from 'rxgrad';
import type { OperatorFunction } from 'rxjs';
import { of, pipe } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { type Prologue, prologueFor } from '../../src/optimizers/prologue.ts';

type Stage = OperatorFunction<TrainingEvent, TrainingEvent>;

/** What a scan makes of the stages before it. */
function behind(stage: Stage): Prologue {
  let last: GradientBatch | null = null;
  of<TrainingEvent>(gradientBatch({ gradients: { w: Float32Array.of(1) } }))
    .pipe(stage)
    .subscribe((event) => (last = event as GradientBatch));
  return prologueFor((last as GradientBatch | null)!.pending);
}

const [norm, value, decay] = [clipByGlobalNorm(2), clipByValue(3), addDecayedWeights(0.5)];
const none = { maxNorm: Number.POSITIVE_INFINITY, limit: Number.POSITIVE_INFINITY, decay: 0 };

describe('what is done with the step, and what before it', () => {
  it.each<[string, Stage, string[], object]>([
    ['norm', norm, [], { maxNorm: 2 }],
    ['value', value, [], { limit: 3 }],
    ['decay', decay, [], { decay: 0.5 }],
    ['norm, value, decay', pipe(norm, value, decay), [], { maxNorm: 2, limit: 3, decay: 0.5 }],
    ['norm, decay', pipe(norm, decay), [], { maxNorm: 2, decay: 0.5 }],
    ['value, norm, decay', pipe(value, norm, decay), ['clipByValue'], { maxNorm: 2, decay: 0.5 }],
    ['decay, value, norm', pipe(decay, value, norm), ['addDecayedWeights', 'clipByValue'], { maxNorm: 2 }],
    ['norm, norm', pipe(clipByGlobalNorm(1), norm), ['clipByGlobalNorm'], { maxNorm: 2 }],
    ['decay, norm, value', pipe(decay, norm, value), ['addDecayedWeights'], { maxNorm: 2, limit: 3 }],
    ['norm, staleness, value', pipe(norm, staleness({ type: 'scale' }), value), ['clipByGlobalNorm', 'staleness'], { limit: 3 }],
    [
      'norm, value, staleness',
      pipe(norm, value, staleness({ type: 'scale' })),
      ['clipByGlobalNorm', 'clipByValue', 'staleness'],
      {},
    ],
    ['what merges, norm', pipe(accumulate(1), norm), [], { maxNorm: 2 }],
  ])('%s', (_, stage, before, fused) => {
    const prologue = behind(stage);
    expect(prologue.before.map(({ op }) => op)).toEqual(before);
    expect(prologue.of('w')).toEqual({ ...none, ...fused });
    expect(prologue.of('w')).toBe(prologue.of('w'));
  });

  it('is nothing without stages', () => {
    expect(prologueFor(null)).toMatchObject({ before: [], staleness: [], compensate: null, clips: 'not' });
    expect(prologueFor(null).of('w')).toEqual(none);
  });

  it('is by parameter', () => {
    const prologue = behind(pipe(clipByGlobalNorm({ b: 1, '*': 4 }), clipByValue({ b: 5 }), addDecayedWeights({ c: 0.1 })));
    expect([prologue.of('b'), prologue.of('c'), prologue.of('b')]).toEqual([
      { maxNorm: 1, limit: 5, decay: 0 },
      { maxNorm: 4, limit: Number.POSITIVE_INFINITY, decay: 0.1 },
      { maxNorm: 1, limit: 5, decay: 0 },
    ]);
  });
});

it.each<[Prologue['clips'], string, Stage]>([
  ['not', 'value', value],
  ['first', 'norm', norm],
  ['first', 'norm, value', pipe(norm, value)],
  ['first', 'dropping, norm', pipe(staleness({ type: 'drop', above: 3 }), norm)],
  ['later', 'value, norm', pipe(value, norm)],
  ['later', 'norm, norm', pipe(norm, norm)],
])('the norm is clipped %s, behind %s', (clips, _, stage) => {
  expect(behind(stage).clips).toBe(clips);
});

it('delay is compensated once, and every staleness is looked at', () => {
  const [drop, compensate] = [staleness({ type: 'drop', above: 3 }), staleness({ type: 'compensate' })];
  const prologue = behind(pipe(drop, compensate));
  expect(prologue.staleness.map(({ type }) => type)).toEqual(['drop', 'compensate']);
  expect(prologue.compensate).toBe(prologue.staleness[1]);
  expect(behind(pipe(norm, drop, value)).staleness).toEqual([{ type: 'drop', above: 3 }]);
  expect(behind(drop).compensate).toBeNull();
  expect(() => behind(pipe(compensate, norm, compensate))).toThrow(
    expect.objectContaining({
      code: 'RXGRAD_INVALID_OPTION',
      message: 'staleness: expected delay compensation at most once before a scan, got two of it',
    }),
  );
});
