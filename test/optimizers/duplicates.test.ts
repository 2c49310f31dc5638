import { type GradientBatch, type Rejection, sgd } from 'rxgrad';
import { of } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { batch, batchOf, model } from './batches.ts';

function play(...batches: GradientBatch[]): { applied: number; rejections: Rejection[]; failed: string | null } {
  const params = model();
  const rejections: Rejection[] = [];
  let applied = 0;
  let failed: string | null = null;
  of(...batches)
    .pipe(sgd(params, { lr: 1, rejections: { next: (rejection) => rejections.push(rejection) }, maxRejectionsInARow: 2 }))
    .subscribe({
      next: () => {
        applied += 1;
      },
      error: ({ message }: Error) => {
        failed = message;
      },
    });
  expect(params.version).toBe(applied);
  return { applied, rejections, failed };
}

describe('a batch seen before', () => {
  it('is left out, one that comes out of order is not', () => {
    const { applied, rejections } = play(
      batch(1, { worker: 'x', sequence: 4 }),
      batch(1, { worker: 'x', sequence: 4 }),
      batch(1, { worker: 'x', sequence: 3 }),
      batch(1, { worker: 'x', sequence: 9 }),
      batch(1, { worker: 'x', sequence: 3 }),
    );
    expect(applied).toBe(3);
    expect(rejections).toMatchObject([
      { reason: 'duplicate', worker: 'x', sequence: 4, error: { status: 409 } },
      { reason: 'duplicate', worker: 'x', sequence: 3, error: { details: { expected: 9, got: 3 } } },
    ]);
  });

  it('is told from one that comes too late to know, which counts as bad', () => {
    const { applied, rejections, failed } = play(...[5000, 1, 2].map((sequence) => batch(1, { worker: 'x', sequence })));
    expect(applied).toBe(1);
    expect(rejections).toMatchObject([1, 2].map((sequence) => ({ reason: 'outOfOrder', sequence, error: { status: 422 } })));
    expect(failed).toContain('2 events in a row were rejected');
  });

  it('is counted by worker', () => {
    expect(play(batch(1, { worker: 'x', sequence: 1 }), batch(1, { worker: 'y', sequence: 1 }))).toMatchObject({ applied: 2 });
  });

  it.each([{ worker: 'x' }, { sequence: 1 }, {}])('is not known where only %o is said', (facts) => {
    expect(play(batch(1, facts), batch(1, facts))).toMatchObject({ applied: 2, rejections: [] });
  });

  it('may come again where it was rejected', () => {
    const bad = batchOf({ a: new Float32Array(5) });
    const { applied, rejections } = play(
      Object.assign(bad, { message: { ...bad.message, facts: { worker: 'x', sequence: 1 } } }),
      batch(1, { worker: 'x', sequence: 1 }),
    );
    expect(applied).toBe(1);
    expect(rejections).toMatchObject([{ reason: 'wrongShape', worker: 'x', sequence: 1 }]);
  });

  it('never stops the stream, however often it comes', () => {
    const again = batch(1, { worker: 'x', sequence: 1 });
    expect(play(...Array.from({ length: 10 }, () => again))).toMatchObject({ applied: 1, rejections: { length: 9 } });
  });
});
