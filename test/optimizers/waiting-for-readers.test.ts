import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import { epochBoundary, hotSwap, type Parameters, sgd, type TrainingEvent, type WeightsReader, type WeightsUpdate } from 'rxgrad';
import { Subject, tap } from 'rxjs';
import { describe, expect, it, type TestContext } from 'vitest';
import { batch, bitsOf, model, type Scan, scans } from './batches.ts';

interface Training {
  readonly params: Parameters;
  readonly reader: WeightsReader;
  readonly events$: Subject<TrainingEvent>;
  readonly seen: (number | string)[];
}

/** A scan whose updates go live at once, and a reader of them. */
function train(t: TestContext, scan: Scan, onUpdate: (update: WeightsUpdate) => void = () => {}): Training {
  const params = model();
  const reader = params.reader();
  const events$ = new Subject<TrainingEvent>();
  const seen: (number | string)[] = [];
  const lr = { type: 'StepLR', baseLr: 1, stepSize: 1, gamma: 0.5 } as const;
  const subscription = events$
    .pipe(scan(params, { lr }), hotSwap({ params, swap: () => params.swap() }), tap(onUpdate))
    .subscribe({
      next: ({ version }) => seen.push(version),
      error: (error: { code?: string }) => seen.push(error.code ?? 'failed'),
      complete: () => seen.push('completed'),
    });
  t.onTestFinished(() => {
    subscription.unsubscribe();
    reader.close();
  });
  return { params, reader, events$, seen };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await eventLoopTurn();
}

describe.each(scans)('%s, where a reader holds what the next step would write', (_, scan) => {
  it('waits until it lets go, and loses nothing', async (t) => {
    const { params, reader, events$, seen } = train(t, scan);
    const side = reader.acquire();
    const before = reader.weights(side).a!.slice();
    const events = [batch(1), batch(2), epochBoundary(0), batch(3, {}, ['b']), batch(4)];
    for (const event of events) events$.next(event);
    expect(seen).toEqual([1]);
    await eventLoopTurn();
    expect(seen).toEqual([1]);
    expect(reader.weights(side).a).toEqual(before);

    reader.release(side);
    await until(() => seen.length === 4);
    expect(seen).toEqual([1, 2, 3, 4]);

    const undisturbed = train(t, scan);
    for (const event of events) undisturbed.events$.next(event);
    expect(bitsOf(params)).toEqual(bitsOf(undisturbed.params));
  });

  it('completes when the last step is done', async (t) => {
    const { reader, events$, seen } = train(t, scan);
    const side = reader.acquire();
    for (let i = 0; i < 3; i++) events$.next(batch());
    events$.complete();
    await eventLoopTurn();
    expect(seen).toEqual([1]);
    reader.release(side);
    await until(() => seen.includes('completed'));
    expect(seen).toEqual([1, 2, 3, 'completed']);
  });

  it('puts what subscribers send, while waiting batches are handled, behind those', async (t) => {
    const values: number[] = [];
    const { params, reader, events$ } = train(t, scan, ({ version, gradientNorm }) => {
      values.push(Math.round(gradientNorm / Math.sqrt(106)));
      if (version === 2) events$.next(batch(20));
      if (version === 3) events$.next(batch(30));
    });
    const side = reader.acquire();
    for (const value of [1, 2, 3, 4]) events$.next(batch(value));
    reader.release(side);
    await until(() => params.version === 6);
    expect(values).toEqual([1, 2, 3, 4, 20, 30]);
  });

  it('takes no step any more once it is unsubscribed from', async (t) => {
    const params = model();
    const reader = params.reader();
    t.onTestFinished(() => reader.close());
    const events$ = new Subject<TrainingEvent>();
    const subscription = events$.pipe(scan(params), hotSwap({ params, swap: () => params.swap() })).subscribe();
    const side = reader.acquire();
    events$.next(batch());
    events$.next(batch());
    subscription.unsubscribe();
    reader.release(side);
    await eventLoopTurn();
    await eventLoopTurn();
    expect(params.version).toBe(1);
  });
});

/** Turns of the event loop in which whoever is woken goes on. */
async function turns(): Promise<void> {
  for (let i = 0; i < 20; i++) await eventLoopTurn();
}

describe('a step that had to wait', () => {
  it('waits for whoever holds the weights when the reader has let go, and for the next one after that', async (t) => {
    for (const threads of [0, 1]) {
      const { params, reader, events$, seen } = train(t, (of, options) => sgd(of, { ...options, threads }));
      const side = reader.acquire();
      events$.next(batch());
      await until(() => seen.length === 1);
      events$.next(batch());
      const copies = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      params.seat.hold(copies[0]!.promise);
      params.seat.held!.then(() => params.seat.hold(copies[1]!.promise));
      reader.release(side);
      await turns();
      expect(seen).toEqual([1]);
      copies[0]!.resolve();
      await turns();
      expect([seen, params.settled]).toEqual([[1], false]);
      copies[1]!.resolve();
      await until(() => seen.length === 2);
      expect(params.settled).toBe(true);
    }
  });

  it('waits for who reads the average, too', async (t) => {
    const into = model();
    const reader = into.reader();
    t.onTestFinished(() => reader.close());
    const events$ = new Subject<TrainingEvent>();
    const seen: number[] = [];
    events$
      .pipe(sgd(into.twin(), { average: { into, decay: 0.5 } }), hotSwap({ params: into, swap: () => into.swap() }))
      .subscribe(({ version }) => seen.push(version));
    const side = reader.acquire();
    const before = reader.weights(side).a!.slice();
    for (let i = 0; i < 3; i++) events$.next(batch());
    await turns();
    expect([seen, reader.weights(side).a]).toEqual([[1], before]);
    reader.release(side);
    await until(() => seen.length === 3);
    expect(into.liveVersion).toBe(3);
  });

  it('is not taken, where a copy holds the weights when it is unsubscribed from, and the parameters are free behind that', async (t) => {
    const { params, reader, events$, seen } = train(t, sgd);
    const copy = Promise.withResolvers<void>();
    params.seat.hold(copy.promise);
    events$.next(batch());
    await turns();
    expect(seen).toEqual([]);
    const next = new Subject<TrainingEvent>();
    const taken = () => {
      let failed = false;
      next.pipe(sgd(params)).subscribe({ error: () => (failed = true) });
      return !failed;
    };
    events$.error(Object.assign(new Error('ended'), { code: 'ended' }));
    expect([seen, taken()]).toEqual([['ended'], false]);
    copy.resolve();
    await turns();
    expect([params.version, taken()]).toEqual([0, true]);
    reader.close();
  });
});

describe('a reader that takes its time', () => {
  it('of older weights still sees them whole', (t) => {
    const { reader, events$ } = train(t, scans[0]![1]);
    const side = reader.acquire();
    events$.next(batch());
    expect(reader.version(side)).toBe(0);
    expect([...reader.weights(side).b!]).toEqual([0.5, 0, -0.5]);
    reader.release(side);
    expect(reader.read((weights, version) => [version, ...weights.b!])).toEqual([1, -0.5, -2, -3.5]);
  });
});
