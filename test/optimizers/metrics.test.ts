import { epochBoundary, metricReport, reduceLROnPlateau, sgd, type TrainingEvent } from 'rxgrad';
import { of } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { batch, model } from './batches.ts';

const report = (name: string, value: number) => metricReport({ name, value });

function play(
  metric: string | undefined,
  ...events: TrainingEvent[]
): { rates: number[]; error: unknown; params: ReturnType<typeof model> } {
  const seen = { rates: [] as number[], error: null as unknown, params: model() };
  of(...events)
    .pipe(sgd(seen.params, { lr: reduceLROnPlateau({ baseLr: 1, patience: 0, factor: 0.5, ...(metric ? { metric } : {}) }) }))
    .subscribe({ next: ({ lr }) => seen.rates.push(lr), error: (error: unknown) => (seen.error = error) });
  return seen;
}

describe('a schedule that looks at a metric', () => {
  const worse = [report('loss', 1), epochBoundary(0), report('accuracy', 0.5), report('loss', 2), epochBoundary(1), batch()];

  it('that it is not told ends the stream where several are reported, whichever came last', () => {
    for (const events of [worse, worse.toReversed()]) {
      const { error } = play(undefined, ...events);
      expect(error).toMatchObject({
        code: 'RXGRAD_AMBIGUOUS_METRIC',
        message: expect.stringContaining('set its option `metric`'),
      });
    }
    expect(play('loss', ...worse)).toMatchObject({ error: null, rates: [0.5] });
    expect(play('accuracy', ...worse)).toMatchObject({ error: null, rates: [1] });
  });

  it('knows the one that it looks at when it goes on from a state', () => {
    const { params } = play(undefined, batch(), report('loss', 1), epochBoundary(0));
    const again = model();
    again.loadStateDict(params.stateDict());
    let error: unknown;
    of(report('accuracy', 1))
      .pipe(sgd(again, { lr: reduceLROnPlateau({ baseLr: 1, patience: 0, factor: 0.5 }) }))
      .subscribe({ error: (cause: unknown) => (error = cause) });
    expect(error).toMatchObject({ details: { first: 'loss', second: 'accuracy' } });
  });
});
