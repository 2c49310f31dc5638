import { epochBoundary, metricReport, momentum, type Rejection, type TrainingEvent } from 'rxgrad';
import { of } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { batch, model, scans } from './batches.ts';

const halved = { type: 'StepLR', baseLr: 1, stepSize: 1, gamma: 0.5 } as const;

describe.each(scans)('%s', (_, scan) => {
  function play(...events: TrainingEvent[]): { rates: number[]; epochs: number[]; rejections: Rejection[] } {
    const seen = { rates: [] as number[], epochs: [] as number[], rejections: [] as Rejection[] };
    of(...events)
      .pipe(scan(model(), { lr: halved, rejections: { next: (rejection) => seen.rejections.push(rejection) } }))
      .subscribe(({ lr, epoch }) => {
        seen.rates.push(lr);
        seen.epochs.push(epoch);
      });
    return seen;
  }

  it('changes the rate of the batch behind a boundary', () => {
    const { rates, epochs } = play(batch(), epochBoundary(0), batch(), batch(), epochBoundary(1), epochBoundary(2), batch());
    expect(rates).toEqual([1, 0.5, 0.5, 0.125]);
    expect(epochs).toEqual([0, 1, 1, 3]);
  });

  it('ticks once for a number, which may leave others out', () => {
    const { rates, rejections } = play(epochBoundary(5), epochBoundary(5), batch(), epochBoundary(4), epochBoundary(9), batch());
    expect(rates).toEqual([0.5, 0.25]);
    expect(rejections).toMatchObject([
      { reason: 'repeatedEpoch', error: { code: 'RXGRAD_REPEATED_EPOCH', details: { expected: 5, got: 5 } } },
      { reason: 'repeatedEpoch', error: { details: { expected: 5, got: 4 } } },
    ]);
  });

  it.each([-1, 1.5, Number.NaN, 2 ** 53])('rejects epoch %d', (epoch) => {
    const { rates, rejections } = play(epochBoundary(epoch), batch());
    expect(rates).toEqual([1]);
    expect(rejections).toMatchObject([{ reason: 'undecodable' }]);
  });

  it('takes no step for a metric', () => {
    expect(play(metricReport({ name: 'loss', value: 1 }), batch())).toMatchObject({ rates: [1], rejections: [] });
  });
});

describe('a rate', () => {
  it('may be any function of the epochs that have ended', () => {
    const rates: number[] = [];
    of(batch(), epochBoundary(0), batch())
      .pipe(momentum(model(), { lr: (ticks) => 1 / (1 + ticks) }))
      .subscribe(({ lr }) => rates.push(lr));
    expect(rates).toEqual([1, 0.5]);
  });

  it('that is no number ends the stream before it reaches the weights', () => {
    const params = model();
    let failure: unknown;
    of(batch(), epochBoundary(0), batch())
      .pipe(momentum(params, { lr: (ticks) => (ticks === 0 ? 1 : Number.NaN) }))
      .subscribe({
        error: (error) => {
          failure = error;
        },
      });
    expect(failure).toMatchObject({ code: 'RXGRAD_INVALID_OPTION', details: { option: 'lr(1)', got: 'NaN' } });
    expect(params.version).toBe(1);
  });
});
