import { epochBoundary, type TrainingEvent } from 'rxgrad';
import { of, Subject, take } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { batch, batchOf, bitsOf, model, scans } from './batches.ts';

describe.each(scans)('%s with a source that is fed from behind it', (_, scan) => {
  it('takes the same steps as over the events in a row', () => {
    const [fed, plain] = [model(), model()];
    const events$ = new Subject<TrainingEvent>();
    const versions: number[] = [];
    events$.pipe(scan(fed)).subscribe(({ version }) => {
      versions.push(version);
      if (version === 2) events$.next(epochBoundary(0));
      if (version < 4) events$.next(batch(version + 1));
    });
    events$.next(batch(1));
    of(batch(1), batch(2), epochBoundary(0), batch(3), batch(4)).pipe(scan(plain)).subscribe();
    expect(versions).toEqual([1, 2, 3, 4]);
    expect(bitsOf(fed)).toEqual(bitsOf(plain));
  });

  it('goes on when a rejection is answered with a better batch', () => {
    const params = model();
    const events$ = new Subject<TrainingEvent>();
    events$.pipe(scan(params, { rejections: { next: () => events$.next(batch()) }, maxRejectionsInARow: 2 })).subscribe();
    for (let i = 0; i < 5; i++) events$.next(batchOf({}));
    expect(params.version).toBe(5);
  });

  it('stops where its subscriber has enough', () => {
    const params = model();
    const events$ = new Subject<TrainingEvent>();
    const seen: number[] = [];
    events$.pipe(scan(params), take(3)).subscribe(({ version }) => {
      seen.push(version);
      events$.next(batch());
    });
    events$.next(batch());
    expect(events$.observed).toBe(false);
    expect(seen.length).toBeLessThanOrEqual(3);
    expect(params.version).toBeLessThan(5);
  });
});
