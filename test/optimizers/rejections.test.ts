import { adam, clipByValue, epochBoundary, type Rejection, type TrainingEvent } from 'rxgrad';
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

  it('leave the parameters free for the next attempt', () => {
    const params = model();
    of(nan, nan)
      .pipe(adam(params, { maxRejectionsInARow: 2 }))
      .subscribe({ error: () => {} });
    of(epochBoundary(0), batch()).pipe(adam(params)).subscribe();
    expect(params.version).toBe(1);
  });
});
