import { epochBoundary, type GradientBatch, type TrainingEvent } from 'rxgrad';
import { map, type Observable, tap } from 'rxjs';
import { type RunHelpers, TestScheduler } from 'rxjs/testing';
import { describe, expect, it } from 'vitest';
import { batch, model, scans } from './batches.ts';

const events: Record<string, GradientBatch> = { a: batch(1), b: batch(2), c: batch(3) };
const versions = { 1: 1, 2: 2, 3: 3 };

function inVirtualTime(play: (helpers: RunHelpers) => void): void {
  new TestScheduler((actual, expected) => expect(actual).toEqual(expected)).run(play);
}

describe.each(scans)('%s', (_, scan) => {
  const versionsOf = (events$: Observable<TrainingEvent>) =>
    events$.pipe(
      scan(model()),
      map(({ version }) => version),
    );

  it.each([
    ['never', '-', '-', '^'],
    ['empty', '--|', '--|', '^-!'],
    ['one', '--a|', '--1|', '^--!'],
    ['many', 'a-b-c-|', '1-2-3-|', '^-----!'],
    ['many at once', '(abc|)', '(123|)', '(^!)'],
  ])('%s', (_, source, expected, subscription) => {
    inVirtualTime(({ cold, expectObservable, expectSubscriptions }) => {
      const events$ = cold(source, events);
      expectObservable(versionsOf(events$)).toBe(expected, versions);
      expectSubscriptions(events$.subscriptions).toBe(subscription);
    });
  });

  it('passes the source’s error on', () => {
    inVirtualTime(({ cold, expectObservable, expectSubscriptions }) => {
      const events$ = cold('a-b-#', events, new Error('lost'));
      expectObservable(versionsOf(events$)).toBe('1-2-#', versions, new Error('lost'));
      expectSubscriptions(events$.subscriptions).toBe('^---!');
    });
  });

  it('lets go of the source when it is unsubscribed from', () => {
    inVirtualTime(({ hot, expectObservable, expectSubscriptions }) => {
      const events$ = hot('a-b-c-a-', events);
      expectObservable(versionsOf(events$), '---!').toBe('1-2-', versions);
      expectSubscriptions(events$.subscriptions).toBe('^--!');
    });
  });

  it('lets go of the source when something downstream throws', () => {
    inVirtualTime(({ hot, expectObservable, expectSubscriptions }) => {
      const events$ = hot('a-b-c-', events);
      const thrower = tap((version: number) => {
        if (version === 2) throw new Error('downstream');
      });
      expectObservable(versionsOf(events$).pipe(thrower)).toBe('1-#', versions, new Error('downstream'));
      expectSubscriptions(events$.subscriptions).toBe('^-!');
    });
  });

  it.each([
    ['a schedule', { lr: (ticks: number) => (ticks === 0 ? 1 : fail('thrown')) }, 'a-b-e-a|', '1-2-#', '^---!'],
    ['an observer of rejections', { rejections: { next: () => fail('thrown') } }, 'a-r-a|', '1-#', '^-!'],
  ])('fails where %s throws', (_, options, source, expected, subscription) => {
    inVirtualTime(({ cold, expectObservable, expectSubscriptions }) => {
      const events$ = cold<TrainingEvent>(source, { ...events, e: epochBoundary(0), r: epochBoundary(-1) });
      const versions$ = events$.pipe(
        scan(model(), options),
        map(({ version }) => version),
      );
      expectObservable(versions$).toBe(expected, versions, new Error('thrown'));
      expectSubscriptions(events$.subscriptions).toBe(subscription);
    });
  });

  it('tells of a step what is known of it', () => {
    const params = model();
    const delivery = { position: { topic: 'g', partition: 2, offset: 40 }, source: { done: () => {} } };
    const whole = batch(1, { base: -3 });
    const arrived = Object.assign(batch(2, { base: 0 }), { message: { ...batch(2, { base: 0 }).message, delivery } });
    const facts: object[] = [];
    inVirtualTime(({ cold, flush }) => {
      cold('ab|', { a: whole, b: arrived })
        .pipe(scan(params, { lr: 0.25 }))
        .subscribe((update) => facts.push(update.facts));
      flush();
    });
    const norm = Math.sqrt(91 + 14 + 1);
    expect(facts).toMatchObject([
      { version: 1, step: 1, epoch: 0, lr: 0.25, gradientNorm: norm, clipped: false, staleness: 3, position: null },
      { version: 2, step: 2, gradientNorm: 2 * norm, staleness: 1, position: delivery.position },
    ]);
  });
});

function fail(message: string): never {
  throw new Error(message);
}
