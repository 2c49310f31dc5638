import { adam, clipByValue, epochBoundary, metricReport, observations, type Rejection, sgd, type TrainingEvent } from 'rxgrad';
import { from, map, of, repeat, Subject } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { RxgradError } from '../../src/errors.ts';
import { GradientBatch, rejection } from '../../src/events.ts';
import { batch, batchOf, bitsOf, model, scans } from './batches.ts';

const position = { topic: 'gradients', partition: 3, offset: 77 };

function at({ message }: GradientBatch): GradientBatch {
  const delivery = { position, source: { done: () => {} } };
  return new GradientBatch({ ...message, facts: { worker: 'w9', sequence: 5 }, delivery }, null);
}

const tensor = (dims: number[], data = new Float32Array(6)) => batchOf({ b: new Float32Array(3).fill(9), a: { dims, data } });

const bad: [string, GradientBatch, string, RegExp][] = [
  ['NaN', batchOf({ a: Float32Array.of(1, 1, 1, Number.NaN, 1, 1), b: new Float32Array(3) }), 'notFinite', /Infinity in "a"$/],
  ['Infinity', batchOf({ b: Float32Array.of(1, 1, Number.POSITIVE_INFINITY) }), 'notFinite', /Infinity in "b"$/],
  ['−Infinity', batchOf({ c: Float32Array.of(Number.NEGATIVE_INFINITY) }), 'notFinite', /Infinity in "c"$/],
  [
    'an unknown parameter',
    batchOf({ a: new Float32Array(6), d: new Float32Array(1) }),
    'unknownParameter',
    /\(a, b, c\), got "d"/,
  ],
  ['other dims', tensor([3, 2]), 'wrongShape', /"a" with dims \[2,3\], got \[3,2\]/],
  ['flat dims', tensor([6]), 'wrongShape', /"a" with dims \[2,3\], got \[6\]/],
  ['another length', batchOf({ a: new Float32Array(5) }), 'wrongShape', /"a" with dims \[2,3\], got \[5\]/],
  ['a length unlike its dims', tensor([2, 3], new Float32Array(5)), 'wrongShape', /dims \[2,3\], got \[5 values\]/],
  ['no tensor', batchOf({}), 'emptyBatch', /at least one tensor/],
];

describe.each(scans)('%s', (_, scan) => {
  it.each(bad)('rejects %s and leaves weights and state as they are, bit for bit', (_, event, reason, message) => {
    const rejections: Rejection[] = [];
    const [disturbed, calm] = [model(), model()];
    const versions: number[] = [];
    from([batch(1), at(event), batch(-2), at(event), batch(3)])
      .pipe(scan(disturbed, { lr: 0.1, rejections: { next: (rejected) => rejections.push(rejected) } }))
      .subscribe(({ version }) => versions.push(version));
    from([batch(1), batch(-2), batch(3)])
      .pipe(scan(calm, { lr: 0.1 }))
      .subscribe();
    expect(bitsOf(disturbed)).toEqual(bitsOf(calm));
    expect(versions).toEqual([1, 2, 3]);
    expect(rejections).toHaveLength(2);
    expect(rejections[0]).toMatchObject({ kind: 'rejection', reason, position, worker: 'w9', sequence: 5 });
    expect(rejections[0]!.error.message).toMatch(message);
    expect(rejections[0]!.error.message).toMatch(/^gradients\/3@77: /);
    expect(rejections[0]!.error.disposition).toBe('skip');
  });

  it('rejects what is not finite also where a stage before a reader would have clipped it', () => {
    const params = model();
    const rejections: Rejection[] = [];
    of(batchOf({ b: Float32Array.of(1, 1, Number.POSITIVE_INFINITY) }))
      .pipe(
        clipByValue(0.5),
        map((event) => (event instanceof GradientBatch ? event.withGradients(event.gradients) : event)),
        scan(params, { rejections: { next: (rejected) => rejections.push(rejected) } }),
      )
      .subscribe();
    expect(rejections).toMatchObject([{ reason: 'notFinite' }]);
    expect(params.version).toBe(0);
  });

  it('passes rejections of earlier stages on', () => {
    const undecodable = rejection(new RxgradError('undecodable', { where: 'g/0@1', expected: 'JSON', got: '"x"' }), null);
    const rejections: Rejection[] = [];
    of<TrainingEvent[]>(undecodable, batch())
      .pipe(scan(model(), { rejections: { next: (rejected) => rejections.push(rejected) } }))
      .subscribe();
    expect(rejections).toEqual([undecodable]);
  });
});

describe('too many rejections in a row', () => {
  const nan = batchOf({ c: Float32Array.of(Number.NaN) });
  const ofAll = { next: () => {}, complete: () => expect.unreachable('completed') };
  const tooMany = (count: number) => ({
    code: 'RXGRAD_TOO_MANY_REJECTIONS',
    message: expect.stringContaining(`${count} events in a row were rejected; the last one: gradient batch: expected finite`),
    cause: expect.objectContaining({ code: 'RXGRAD_NOT_FINITE' }),
  });

  it('stop the stream with the reason of the last', () => {
    const events$ = new Subject<TrainingEvent>();
    let failure: unknown;
    events$.pipe(adam(model(), { maxRejectionsInARow: 3 })).subscribe({
      ...ofAll,
      error: (error) => {
        failure = error;
      },
    });
    for (const event of [nan, nan, batch(), nan, nan]) events$.next(event);
    expect(failure).toBeUndefined();
    events$.next(nan);
    expect(failure).toMatchObject(tooMany(3));
    expect(events$.observed).toBe(false);
  });

  it('stop a source that emits without end while it is being subscribed to', () => {
    let failure: unknown;
    of(nan)
      .pipe(repeat(), adam(model(), { maxRejectionsInARow: 1000 }))
      .subscribe({
        ...ofAll,
        error: (error) => {
          failure = error;
        },
      });
    expect(failure).toMatchObject(tooMany(1000));
  });

  it('are a thousand where nothing else is said', () => {
    const outcomes = [999, 1000].map((count) => {
      let outcome = 'running';
      from(Array.from({ length: count }, () => nan))
        .pipe(adam(model()))
        .subscribe({
          error: () => {
            outcome = 'failed';
          },
          complete: () => {
            outcome = 'completed';
          },
        });
      return outcome;
    });
    expect(outcomes).toEqual(['completed', 'failed']);
  });

  it('are counted anew behind each batch that was applied, and behind nothing else', () => {
    const outcomeOf = (...events: TrainingEvent[]): string => {
      let outcome = 'running';
      const events$ = new Subject<TrainingEvent>();
      events$.pipe(adam(model(), { maxRejectionsInARow: 2 })).subscribe({ error: () => (outcome = 'failed') });
      for (const event of events) events$.next(event);
      return outcome;
    };
    expect(outcomeOf(nan, batch(), nan, batch(), nan, batch(), nan)).toBe('running');
    expect(outcomeOf(nan, epochBoundary(0), nan)).toBe('failed');
    expect(outcomeOf(nan, metricReport({ name: 'm', value: 1 }), nan)).toBe('failed');
    expect(outcomeOf(epochBoundary(-1), nan)).toBe('failed');
  });

  it('end the stream at the first where no more are allowed', () => {
    let failure: unknown;
    of(batch(), nan)
      .pipe(adam(model(), { maxRejectionsInARow: 1 }))
      .subscribe({ error: (error) => (failure = error) });
    expect(failure).toMatchObject(tooMany(1));
  });

  it('leave the parameters free for the next attempt', () => {
    const params = model();
    of(nan, nan)
      .pipe(adam(params, { maxRejectionsInARow: 2 }))
      .subscribe({ error: () => {} });
    of(epochBoundary(0), batch()).pipe(adam(params)).subscribe();
    expect(params.version).toBe(1);
  });
});

describe('where what is left out has to be kept', () => {
  const nan = batchOf({ c: Float32Array.of(Number.NaN) });

  /** A scan over events that say where they came from; `done` lists what it acknowledged. */
  function scanned({ maxRejectionsInARow = 1000, flushes = true } = {}) {
    const done: string[] = [];
    const asked: PromiseWithResolvers<void>[] = [];
    const seen: string[] = [];
    const events$ = new Subject<TrainingEvent>();
    const flushed = (): Promise<void> => {
      asked.push(Promise.withResolvers());
      return asked.at(-1)!.promise;
    };
    const params = model();
    const subscription = events$
      .pipe(sgd(params, { maxRejectionsInARow, rejections: { next: () => {}, ...(flushes ? { flushed } : {}) } }))
      .subscribe({
        next: ({ version }) => seen.push(`version ${version}`),
        error: (error: Error) => seen.push((error as RxgradError).key ?? error.message),
        complete: () => seen.push('completed'),
      });
    const sourceOf = (name: string) => ({
      done: ({ topic, partition, offset }: typeof position) => done.push(`${name}${topic}/${partition}@${offset}`),
    });
    const sources = { first: sourceOf(''), second: sourceOf('second:') };
    const send = (event: GradientBatch | TrainingEvent, offset: number, place = {}, source = sources.first): void => {
      const delivery = { position: { topic: 'g', partition: 0, ...place, offset }, source };
      events$.next(
        event instanceof GradientBatch ? new GradientBatch({ ...event.message, delivery }, null) : { ...event, delivery },
      );
    };
    const turns = async (): Promise<void> => {
      for (let i = 0; i < 10; i++) await new Promise(setImmediate);
    };
    return { params, events$, subscription, done, asked, seen, send, turns, sources };
  }

  it('acknowledges at once what comes before, and nothing behind it until it is kept', async () => {
    const { done, asked, seen, send, turns } = scanned();
    send(batch(), 1);
    expect(done).toEqual(['g/0@1']);
    send(nan, 2);
    send(batch(), 3);
    send(epochBoundary(0), 4);
    await turns();
    expect([done, asked.length, seen]).toEqual([['g/0@1'], 1, ['version 1', 'version 2']]);
    asked[0]!.resolve();
    await turns();
    // The last of a partition covers those before it. What came while the sink was asked waits for no other answer, as nothing of it was left out.
    expect(done).toEqual(['g/0@1', 'g/0@2', 'g/0@4']);
    expect(asked).toHaveLength(1);
    send(batch(), 5);
    expect(done.at(-1)).toBe('g/0@5');
  });

  it('asks again for what is left out meanwhile', async () => {
    const { done, asked, send, turns } = scanned();
    send(nan, 1);
    await turns();
    send(nan, 2);
    send(batch(), 3);
    asked[0]!.resolve();
    await turns();
    expect([done, asked.length]).toEqual([['g/0@1'], 2]);
    send(batch(), 4);
    asked[1]!.resolve();
    await turns();
    expect([done, asked.length]).toEqual([['g/0@1', 'g/0@3', 'g/0@4'], 2]);
    send(nan, 5);
    await turns();
    expect([done.length, asked.length]).toEqual([3, 3]);
  });

  it('acknowledges the last event of each partition, topic and source', async () => {
    const { done, asked, send, turns, sources } = scanned();
    for (const offset of [1, 2]) {
      send(offset === 1 ? nan : batch(), offset);
      send(batch(), offset + 10, { partition: 1 });
      send(batch(), offset + 20, { topic: 'h' });
      send(batch(), offset + 30, {}, sources.second);
    }
    asked[0]!.resolve();
    await turns();
    // The first round had begun with the rejection alone.
    expect(done).toEqual(['g/0@1', 'g/1@12', 'h/0@22', 'second:g/0@32', 'g/0@2']);
  });

  it('acknowledges nothing once it is unsubscribed from, though it is kept', async () => {
    const { subscription, done, asked, send, turns, seen } = scanned();
    send(nan, 1);
    send(batch(), 2);
    subscription.unsubscribe();
    asked[0]!.resolve();
    await turns();
    expect([done, seen]).toEqual([[], ['version 1']]);
  });

  it('completes when it is kept, and lets go of its source before', async () => {
    const { params, events$, done, asked, seen, send, turns } = scanned();
    send(nan, 1);
    events$.complete();
    await turns();
    expect(seen).toEqual([]);
    expect(() => params.seat.enter()).toThrow(/one scan/);
    asked[0]!.resolve();
    await turns();
    expect([done, seen]).toEqual([['g/0@1'], ['completed']]);
    params.seat.enter();
  });

  it('fails for too many when they are kept, takes no event until then, and fails once', async () => {
    const { events$, done, asked, seen, send, turns } = scanned({ maxRejectionsInARow: 2 });
    for (const offset of [1, 2, 3]) send(nan, offset);
    send(batch(), 4);
    await turns();
    expect([seen, events$.observed]).toEqual([[], false]);
    asked[0]!.resolve();
    await turns();
    asked[1]?.resolve();
    await turns();
    expect([done, seen]).toEqual([['g/0@1', 'g/0@2'], ['tooManyRejections']]);
  });

  it('says nothing more where it is unsubscribed from while it waits to end', async () => {
    const { events$, subscription, asked, seen, send, turns } = scanned();
    send(nan, 1);
    events$.complete();
    subscription.unsubscribe();
    asked[0]!.resolve();
    await turns();
    expect(seen).toEqual([]);
  });

  it('fails where it cannot be kept, and acknowledges nothing', async () => {
    const { done, asked, seen, send, turns, events$ } = scanned();
    send(nan, 1);
    send(batch(), 2);
    asked[0]!.reject(new Error('full'));
    await turns();
    expect([done, seen, events$.observed]).toEqual([[], ['version 1', 'full'], false]);
  });

  it('asks for nothing where nothing was left out, and tells what is kept through the parameters', async () => {
    const { params, done, asked, send, turns } = scanned();
    send(batch(), 1);
    send(epochBoundary(0), 2);
    expect([done, asked]).toEqual([['g/0@1', 'g/0@2'], []]);
    let isKept = false;
    const kept = params.whenRejectionsKept().then(() => (isKept = true));
    await turns();
    expect(isKept).toBe(false);
    asked[0]!.resolve();
    await kept;
  });

  it('acknowledges at once where the sink does not say when', async () => {
    const { params, done, send } = scanned({ flushes: false });
    send(nan, 1);
    expect(done).toEqual(['g/0@1']);
    await params.whenRejectionsKept();
  });

  it('does not ask for events of no source', async () => {
    const { events$, asked, turns, seen } = scanned();
    events$.next(batch());
    events$.next(nan);
    events$.next(batch());
    asked[0]!.resolve();
    await turns();
    expect(seen).toEqual(['version 1', 'version 2']);
  });
});

describe('a sink that takes its time', () => {
  const nan = batchOf({ c: Float32Array.of(Number.NaN) });

  it('is waited for before the next event, and only then', async () => {
    const room = Promise.withResolvers<void>();
    const seen: string[] = [];
    const events$ = new Subject<TrainingEvent>();
    const params = model();
    const next = ({ reason }: Rejection): Promise<void> => {
      seen.push(reason);
      return room.promise;
    };
    events$.pipe(sgd(params, { rejections: { next } })).subscribe({
      next: ({ version }) => seen.push(`version ${version}`),
      complete: () => seen.push('completed'),
    });
    events$.next(nan);
    expect(params.settled).toBe(false);
    for (const event of [batch(), nan, batch()]) events$.next(event);
    events$.complete();
    await new Promise(setImmediate);
    expect(seen).toEqual(['notFinite']);
    room.resolve();
    for (let i = 0; i < 10; i++) await new Promise(setImmediate);
    expect(seen).toEqual(['notFinite', 'version 1', 'notFinite', 'version 2', 'completed']);
    expect(params.settled).toBe(true);
  });

  it.each([[undefined], [null], [5], [{}], [Object.fromEntries([['then', 5]])]])(
    'is not waited for where it returns %j',
    (given) => {
      let version = 0;
      of(nan, batch())
        .pipe(sgd(model(), { rejections: { next: () => given } }))
        .subscribe((update) => ({ version } = update));
      expect(version).toBe(1);
    },
  );

  it('ends the stream where it fails', async () => {
    const events$ = new Subject<TrainingEvent>();
    const seen: string[] = [];
    events$
      .pipe(sgd(model(), { rejections: { next: () => Promise.reject(new Error('full')) } }))
      .subscribe({ next: () => seen.push('version'), error: ({ message }: Error) => seen.push(message) });
    events$.next(nan);
    events$.next(batch());
    for (let i = 0; i < 10; i++) await new Promise(setImmediate);
    expect([seen, events$.observed]).toEqual([['full'], false]);
  });
});

it('a rejection says which scan refused which event, and is published once', () => {
  const published: unknown[] = [];
  const watching = observations().subscribe((one) => published.push(one));
  const rejections: Rejection[] = [];
  const [boundary, nan] = [epochBoundary(-1), batchOf({ c: Float32Array.of(Number.NaN) })];
  of<TrainingEvent[]>(boundary, nan)
    .pipe(sgd(model(), { rejections: { next: (rejected) => rejections.push(rejected) } }))
    .subscribe();
  watching.unsubscribe();
  expect(rejections).toMatchObject([
    { at: 'SGD', event: boundary },
    { at: 'SGD', event: nan },
  ]);
  expect(published).toMatchObject(rejections.map((rejected) => ({ kind: 'rejection', at: 'SGD', rejection: rejected })));
});
