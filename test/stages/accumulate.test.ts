import {
  accumulate,
  clipByValue,
  epochBoundary,
  GradientBatch,
  type GradientInput,
  gradientBatch,
  metricReport,
  momentum,
  Parameters,
  type Position,
  type Rejection,
  sgd,
  type TrainingEvent,
} from 'rxgrad';
import { concat, from, lastValueFrom, NEVER, of, throwError, toArray } from 'rxjs';
import { describe, expect, it, vi } from 'vitest';
import { readTensorFile } from '../../src/params/tensor-file.ts';
import { batch, bitsOf, model } from '../optimizers/batches.ts';

const through = (k: number, ...events: TrainingEvent[]): Promise<TrainingEvent[]> =>
  lastValueFrom(from(events).pipe(accumulate(k), toArray()));
const gradientsOf = (event: TrainingEvent | undefined): Record<string, number[]> =>
  Object.fromEntries(Object.entries((event as GradientBatch).gradients).map(([name, data]) => [name, [...data]]));
const kinds = (events: readonly TrainingEvent[]): string[] => events.map(({ kind }) => kind);
const w = (...values: number[]): { gradients: { w: Float32Array } } => ({ gradients: { w: Float32Array.from(values) } });

/** A batch with a place in a log, which notes what is acknowledged. */
function logged(event: GradientBatch, offset: number, done: number[]): GradientBatch {
  const delivery = { position: { topic: 't', partition: 0, offset }, source: { done: () => done.push(offset) } };
  return new GradientBatch({ ...event.message, delivery }, event.pending);
}

/** As a message from the wire may have them. */
function rowsBelowZero(): GradientBatch {
  const { message } = gradientBatch({ gradients: { u: { indices: [7], values: Float32Array.of(1) } } });
  const payload = message.payload.slice();
  new DataView(payload.buffer).setInt32(message.layout.tensors[0]!.rows!.begin, -3, true);
  return new GradientBatch({ ...message, payload }, null);
}

describe('accumulate', () => {
  it('takes the mean, weighted by batch size', async () => {
    const [merged] = await through(
      3,
      gradientBatch({ ...w(1, 10), batchSize: 2, loss: 4 }),
      gradientBatch({ ...w(4, -20), batchSize: 1 }),
      gradientBatch({ ...w(-2, 2), batchSize: 5, loss: 0.5 }),
    );
    expect(gradientsOf(merged)).toEqual({ w: [(2 + 4 - 10) / 8, (20 - 20 + 10) / 8] });
    expect((merged as GradientBatch).facts).toMatchObject({ batchSize: 8, loss: (8 + 2.5) / 7 });
  });

  it('takes each parameter over the batches that carry it', async () => {
    const [merged] = await through(2, batch(1), batch(3, {}, ['b']));
    expect(gradientsOf(merged)).toEqual({ a: [1, 2, 3, 4, 5, 6], b: [2, 4, 6], c: [1] });
  });

  it('takes batches in which no row was touched', async () => {
    const none = gradientBatch({ gradients: { t: { indices: [], values: new Float32Array() } } });
    const some = gradientBatch({ gradients: { t: { indices: [7], values: Float32Array.of(4, 8), dims: [1, 2] } } });
    for (const parts of [
      [none, some],
      [some, none],
    ]) {
      const [merged] = await through(2, ...parts);
      expect((merged as GradientBatch).rows).toEqual({ t: { indices: Int32Array.of(7), values: Float32Array.of(2, 4) } });
      expect((merged as GradientBatch).message.layout.tensors[0]!.dims).toEqual([1, 2]);
    }
    expect(((await through(2, none, none))[0] as GradientBatch).rows.t!.indices).toEqual(new Int32Array());
  });

  it('adds up touched rows, whichever batch they came in', async () => {
    const rows = (indices: number[], values: number[], batchSize: number) =>
      gradientBatch({ gradients: { t: { indices, values: Float32Array.from(values) } }, batchSize });
    const [merged] = await through(2, rows([7, 2], [1, 2, 3, 4], 3), rows([2, 5], [8, 0, 4, 4], 1));
    const { t } = (merged as GradientBatch).rows;
    expect([...t!.indices]).toEqual([7, 2, 5]);
    expect([...t!.values]).toEqual([3 / 4, 6 / 4, (9 + 8) / 4, 12 / 4, 1, 1]);
  });

  it('does what stages asked for to each batch first', async () => {
    const merged = await lastValueFrom(
      from([gradientBatch(w(9)), gradientBatch(w(-1))]).pipe(clipByValue(2), accumulate(2), toArray()),
    );
    expect(gradientsOf(merged[0])).toEqual({ w: [0.5] });
  });

  it.each([1, 2, 5])('of %i equal batches is one of them', (k) => {
    const [once, often] = [model(), model()];
    of(batch(0.3), batch(-0.7)).pipe(momentum(once)).subscribe();
    const repeated = [0.3, -0.7].flatMap((value) => Array.from({ length: k }, () => batch(value, { batchSize: 4 })));
    from(repeated).pipe(accumulate(k), momentum(often)).subscribe();
    if (k === 1) expect(bitsOf(often)).toEqual(bitsOf(once));
    for (const { name, data } of often) {
      for (const [i, x] of data.entries()) expect(x).toBeCloseTo(once.get(name).data[i]!, 5);
    }
    expect(often.version).toBe(2);
  });

  it('passes a single batch on as it is', async () => {
    const single = batch();
    expect((await through(1, single)).map((event) => (event as GradientBatch).message)).toEqual([single.message]);
    expect(gradientsOf((await through(4, single, epochBoundary(0)))[0])).toEqual(gradientsOf(single));
  });

  it('merges what has come when an epoch ends, and when the stream ends only where it is told to', async () => {
    const events = [batch(1), batch(3), epochBoundary(0), batch(5)];
    const merged = await through(3, ...events);
    expect(kinds(merged)).toEqual(['gradients', 'epoch']);
    expect(gradientsOf(merged[0]).c).toEqual([2]);
    const all = await lastValueFrom(from(events).pipe(accumulate(3, { applyAtEnd: true }), toArray()));
    expect(kinds(all)).toEqual(['gradients', 'epoch', 'gradients']);
    expect(gradientsOf(all[2]).c).toEqual([5]);
    expect(kinds(await through(2, epochBoundary(0), metricReport({ name: 'loss', value: 1 })))).toEqual(['epoch', 'metric']);
    expect(await through(2)).toEqual([]);
  });

  it('says which batches the end of the stream leaves unapplied', async () => {
    const warn = vi.spyOn(process, 'emitWarning').mockReturnValue();
    await through(3, logged(batch(1), 7, []), logged(batch(3), 8, []));
    await through(4, batch(1));
    const ends = warn.mock.calls.filter(([, options]) => (options as { code?: string }).code === 'RXGRAD_PARTS_LEFT');
    expect(ends).toEqual([
      [expect.stringContaining('ended after 2 of 3 batches, from t/0@7 on'), { code: 'RXGRAD_PARTS_LEFT' }],
      [expect.stringContaining('ended after 1 of 4 batches. They are not applied'), { code: 'RXGRAD_PARTS_LEFT' }],
    ]);
    warn.mockRestore();
  });

  it('ends nothing at an epoch that does not count', async () => {
    const events = await through(2, epochBoundary(3), batch(1), epochBoundary(3), epochBoundary(-1), batch(3));
    expect(kinds(events)).toEqual(['epoch', 'epoch', 'epoch', 'gradients']);
    expect(gradientsOf(events[3]).c).toEqual([2]);
  });

  it('leaves out duplicates and batches that cannot be used, and says so', async () => {
    const events = await through(
      2,
      batch(1, { worker: 'a', sequence: 1 }),
      batch(9, { worker: 'a', sequence: 1 }),
      batch(Number.NaN),
      gradientBatch({ gradients: { a: new Float32Array(5) } }),
      batch(3, { worker: 'a', sequence: 2 }),
    );
    expect(kinds(events)).toEqual(['rejection', 'rejection', 'rejection', 'gradients']);
    expect(events.slice(0, 3).map((event) => (event as { reason?: string }).reason)).toEqual([
      'duplicate',
      'notFinite',
      'wrongShape',
    ]);
    expect(gradientsOf(events[3]).c).toEqual([2]);
  });

  it.each<[string, GradientInput]>([
    ['another length', new Float32Array(5)],
    ['other dims', { dims: [3, 2], data: new Float32Array(6) }],
    ['rows of another width', { indices: [0], values: new Float32Array(4), dims: [1, 4] }],
  ])('loses at most two batches to one in front of them that has %s', (_, odd) => {
    const params = Parameters.create({ a: { dims: [2, 3] } });
    const good = (value: number) => gradientBatch({ gradients: { a: { dims: [2, 3], data: new Float32Array(6).fill(value) } } });
    const bad = gradientBatch({ gradients: { a: odd } });
    const rejected: Rejection[] = [];
    of(bad, good(1), good(2), good(3), bad, good(4), good(5), good(6), bad, good(7), good(8))
      .pipe(accumulate(3), sgd(params, { lr: 1, rejections: { next: (rejection) => rejected.push(rejection) } }))
      .subscribe();
    expect([...params][0]!.data[0]).toBe(-4 - 7);
    expect(rejected.map(({ at, reason }) => `${at} ${reason}`)).toEqual(Array(5).fill('accumulate wrongShape'));
    expect(rejected.map(({ event }) => event !== bad)).toEqual([true, false, true, false, false]);
    expect(rejected[1]!.error.message).toContain('"a"');
  });

  it('lets a scan know what it gave up, and all that came until then', () => {
    const done: number[] = [];
    const params = Parameters.create({ a: { dims: [1] } });
    const part = (offset: number, length: number): GradientBatch =>
      logged(gradientBatch({ gradients: { a: new Float32Array(length) }, worker: 'w', sequence: offset }), offset, done);
    const states: unknown[] = [];
    const rejections = {
      next: () => void states.push(JSON.parse(readTensorFile(params.stateDict()).metadata['rxgrad.state']!).positions),
    };
    of(part(0, 2), part(1, 1), part(2, 1)).pipe(accumulate(3), sgd(params, { rejections })).subscribe();
    expect(done.toSorted()).toEqual([0, 0, 1, 2]);
    // Two that did not fit; then the first, which is read again until the last one is dealt with.
    expect(states).toEqual([[], [], []]);
    expect(JSON.parse(readTensorFile(params.stateDict()).metadata['rxgrad.state']!).positions).toEqual([['t', 0, 3]]);
    const again: Rejection[] = [];
    const next = (rejection: Rejection): void => void again.push(rejection);
    of(part(0, 2))
      .pipe(sgd(params, { rejections: { next } }))
      .subscribe();
    expect(again.map(({ reason }) => reason)).toEqual(['wrongShape']);
  });

  it.each<[string, GradientBatch, string, RegExp]>([
    [
      'other dims',
      gradientBatch({ gradients: { a: { dims: [3, 2], data: new Float32Array(6) } } }),
      'wrongShape',
      /\[2,3\], got \[3,2\]/,
    ],
    [
      'rows of other dims',
      gradientBatch({ gradients: { t: { indices: [0], values: new Float32Array(4), dims: [1, 4] } } }),
      'wrongShape',
      /rows of 2,2\], got \[rows of 4\]/,
    ],
    ['no examples', batch(1, { batchSize: 0 }), 'undecodable', /a batch size above 0, got 0/],
    ['examples without number', batch(1, { batchSize: Number.NaN }), 'undecodable', /a batch size above 0, got NaN/],
    ['rows below 0', rowsBelowZero(), 'rowOutOfRange', /from 0 to 2147483647, got -3/],
  ])('merges no %s with others', async (_, odd, reason, message) => {
    const first = gradientBatch({
      gradients: {
        a: { dims: [2, 3], data: new Float32Array(6) },
        t: { indices: [1], values: new Float32Array(4), dims: [1, 2, 2] },
      },
    });
    const events = await through(2, first, odd, first);
    expect(kinds(events)).toEqual(['rejection', 'gradients']);
    expect(events[0]).toMatchObject({ reason, at: 'accumulate', event: odd, error: { message: expect.stringMatching(message) } });
  });

  it('acknowledges no event before the batches ahead of it are applied, but frees its room', async () => {
    const done: number[] = [];
    const released: number[] = [];
    const { delivery } = logged(batch(), 1, done);
    const source = { ...delivery!.source, release: ({ offset }: Position) => released.push(offset) };
    const metric = { ...metricReport({ name: 'loss', value: 1 }), delivery: { ...delivery!, source } };
    const params = model();
    const events = concat(of<TrainingEvent[]>(logged(batch(), 0, done), metric), NEVER).pipe(accumulate(2), sgd(params));
    const subscription = events.subscribe();
    expect(done).toEqual([]);
    expect(released).toEqual([1]);
    subscription.unsubscribe();
    expect(done).toEqual([]);
    of<TrainingEvent[]>(logged(batch(), 0, done), metric, logged(batch(), 2, done))
      .pipe(accumulate(2), sgd(params))
      .subscribe();
    expect(done).toEqual([0, 1, 2]);
  });

  it('lets the scan know every part, so that none counts twice', () => {
    const params = Parameters.create({ w: { dims: [1] } });
    const reasons: string[] = [];
    const part = (sequence: number) => gradientBatch({ ...w(1), worker: 'a', sequence });
    const merged: TrainingEvent[] = [];
    of(part(1), part(2))
      .pipe(accumulate(2))
      .subscribe((event) => merged.push(event));
    of(...merged, part(2), part(3))
      .pipe(sgd(params, { lr: 1, rejections: { next: ({ reason }) => reasons.push(reason) } }))
      .subscribe();
    expect(reasons).toEqual(['duplicate']);
    expect(params.get('w').data[0]).toBe(-2);
  });

  it('drops what was not merged when the stream fails', async () => {
    const seen: TrainingEvent[] = [];
    let failed: unknown;
    concat(
      of(batch(), batch(), batch()),
      throwError(() => 'broken'),
    )
      .pipe(accumulate(2))
      .subscribe({ next: (event) => seen.push(event), error: (error) => (failed = error) });
    expect(failed).toBe('broken');
    expect(kinds(seen)).toEqual(['gradients']);
  });

  it('passes a retried dead letter on as a step of its own, which the scan knows when it comes again', () => {
    const params = Parameters.create({ w: { dims: [1] } });
    const retried = gradientBatch({ ...w(10), worker: 'retry:t/0@3:a', sequence: 0 });
    const reasons: string[] = [];
    of(gradientBatch(w(1)), retried, gradientBatch(w(3)), retried)
      .pipe(accumulate(2), sgd(params, { lr: 1, rejections: { next: ({ reason }) => reasons.push(reason) } }))
      .subscribe();
    expect(params.version).toBe(2);
    expect(params.get('w').data[0]).toBe(-12);
    expect(reasons).toEqual(['duplicate']);
  });

  it.each([0, 1.5, -1, Number.NaN, '3'])('refuses %j', (k) => {
    expect(() => accumulate(k as number)).toThrow(/accumulate: expected/);
  });
});
