import { adam, gradientBatch, Parameters, sgd } from 'rxgrad';
import { of, Subject } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { Origins } from '../../src/params/origins.ts';

const start = { a: { dims: [2], data: [1, 2] }, b: { dims: [], data: [3] } };
const values = (params: Parameters): number[] => [...params].flatMap(({ data }) => [...data]);
/** Turns of the event loop in which whoever is woken goes on. */
async function turns(count = 20): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise(setImmediate);
}

describe('parameters', () => {
  it('are had by name, in their order', () => {
    const params = Parameters.create(start, { version: 9 });
    expect([...params].map(({ name, dims, length }) => [name, dims, length])).toEqual([
      ['a', [2], 2],
      ['b', [], 1],
    ]);
    expect([params.has('a'), params.has('c'), params.names, params.version, params.liveVersion]).toEqual([
      true,
      false,
      ['a', 'b'],
      9,
      9,
    ]);
    expect(() => params.get('c')).toThrow(/\(a, b\), got "c"/);
  });

  it.each([
    [{ version: -1 }, /version: expected >=0/],
    [{ version: 0.5 }, /version: expected a whole number/],
    [{ shardOf: 'a' }, /shardOf/],
    [{ versions: 1 }, /no such option/],
  ])('are not made with %j', (options, message) => {
    expect(() => Parameters.create(start, options as object)).toThrow(message);
  });

  it('that begin with weights that are not finite say so, and those that begin with zeros do not', () => {
    expect(Parameters.create({ ...start, c: { dims: [2], data: [1, Number.NaN] } }).finite).toBe(false);
    expect(Parameters.create({ ...start, c: { dims: [2] } }).finite).toBe(true);
  });

  it('have a twin with the same weights, number and shard, in the same memory', () => {
    const params = Parameters.create(start, { version: 4, shardOf: ['a', 'b', 'c'] });
    const twin = params.twin();
    expect([values(twin), twin.version, twin.shardOf]).toEqual([[1, 2, 3], 4, ['a', 'b', 'c']]);
    twin.load({ a: [7, 8] });
    expect([values(params), values(twin)]).toEqual([
      [1, 2, 3],
      [7, 8, 3],
    ]);
    expect(twin.arena).toBe(params.arena);
    expect(twin.course).not.toBe(params.course);
  });

  it('come back from their state dict as they were, whole or a shard', () => {
    for (const shardOf of [null, ['a', 'b', 'c']]) {
      const params = Parameters.create(start, { version: 4, shardOf });
      const again = Parameters.fromStateDict(params.stateDict());
      expect([values(again), again.version, again.shardOf]).toEqual([[1, 2, 3], 4, shardOf]);
      expect(again.course).not.toBe(params.course);
    }
  });

  it('come back with the state, which fits exactly or not at all', () => {
    const train = (params: Parameters, lr: number) => {
      let error: unknown;
      of(gradientBatch({ gradients: { a: Float32Array.of(1, -1) } }))
        .pipe(adam(params, { lr }))
        .subscribe({ error: (reason) => (error = reason) });
      return error;
    };
    const params = Parameters.create(start);
    train(params, 0.1);
    expect(train(Parameters.fromStateDict(params.stateDict()), 0.2)).toBeUndefined();
    expect(train(Parameters.fromStateDict(params.stateDict(), { exact: true }), 0.2)).toMatchObject({
      code: 'RXGRAD_PARAMETERS_DIFFER',
    });
  });

  it('take over the course of training that a file names, and keep their own where it names none', () => {
    const params = Parameters.create(start);
    const { course } = params;
    params.loadStateDict(params.stateDict());
    expect(params.course).toBe(course);
    const { header, parts, byteLength } = params.planStateDict({ 'rxgrad.course': 'of another' });
    const file = Buffer.alloc(byteLength);
    header.copy(file);
    for (const { at, data } of parts) file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    params.loadStateDict(file);
    expect(params.course).toBe('of another');
  });

  it('are numbered by a file of rxgrad, and one more with a file of others', () => {
    const file = (Parameters.create(start, { version: 70 }) as Parameters).stateDict();
    const params = Parameters.create(start, { version: 7 });
    params.loadStateDict(file);
    expect(params.version).toBe(70);
  });
});

describe('a swap', () => {
  it('tells whether the newest weights are live, which those that are not finite never are', () => {
    const params = Parameters.create(start);
    const reader = params.reader();
    params.load({ a: [Number.NaN, 1] });
    expect([params.finite, params.swap(), params.liveVersion, params.version]).toEqual([false, false, 0, 1]);
    expect([params.newest.version, params.live.version]).toEqual([1, 0]);
    expect(reader.read(({ a }) => [...a!])).toEqual([1, 2]);
    params.load({ a: [5, 6] });
    expect([params.finite, params.swap(), params.liveVersion]).toEqual([true, true, 2]);
    params.pin();
    params.load({ a: [7, 8] });
    expect([params.swap(), params.pinned, params.liveVersion]).toEqual([false, true, 2]);
    params.unpin();
    expect([params.pinned, params.liveVersion]).toEqual([false, 3]);
  });

  it('does not come by unpinning weights that are not finite', () => {
    const params = Parameters.create(start);
    params.pin();
    const batches$ = new Subject<ReturnType<typeof gradientBatch>>();
    batches$.pipe(sgd(params, { lr: 3e38 })).subscribe();
    const batch = gradientBatch({ gradients: { a: Float32Array.of(3, -3) } });
    params.leftRight.show(params.leftRight.latest);
    batches$.next(batch);
    params.leftRight.show(params.leftRight.latest);
    expect(params.finite).toBe(false);
    expect(() => params.unpin()).toThrow(expect.objectContaining({ code: 'RXGRAD_WEIGHTS_NOT_FINITE' }));
    expect(params.pinned).toBe(true);
    params.load({ a: [1, 1] });
    params.unpin();
    expect([params.pinned, params.liveVersion]).toEqual([false, 2]);
  });
});

describe('weights are free to be loaded', () => {
  it('at once where nobody reads what would be written, and only when the last reader has let go of it', async () => {
    const params = Parameters.create(start);
    await params.whenFree();
    const readers = [params.reader(), params.reader()];
    const slots = readers.map((reader) => reader.acquire());
    await params.whenFree();
    params.load({ a: [5, 6] });
    let isFree = false;
    const free = params.whenFree().then(() => (isFree = true));
    await turns();
    readers[0]!.release(slots[0]!);
    await turns();
    expect(isFree).toBe(false);
    readers[1]!.release(slots[1]!);
    await free;
  });

  it('once nobody holds them, also where another holds them when the first has let go', async () => {
    const params = Parameters.create(start);
    const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    params.seat.hold(first.promise);
    expect(() => params.load({ a: [5, 6] })).toThrow(expect.objectContaining({ code: 'RXGRAD_STEP_UNDER_WAY' }));
    params.seat.held!.then(() => params.seat.hold(second.promise));
    let isFree = false;
    const free = params.whenFree().then(() => (isFree = true));
    first.resolve();
    await turns();
    expect(isFree).toBe(false);
    expect(values(params)).toEqual([1, 2, 3]);
    second.resolve();
    await free;
    params.load({ a: [5, 6] });
    expect(values(params)).toEqual([5, 6, 3]);
  });
});

describe('weights that do not fit', () => {
  it('are all named, and nothing is written', () => {
    const params = Parameters.create(start);
    const load = () => params.load({ a: [1], b: [7], c: [1] });
    expect(load).toThrow(/"a" has 2 values \[2\], got 1; "c" is not a parameter \(there are a, b\)/);
    expect([params.version, ...values(params)]).toEqual([0, 1, 2, 3]);
  });
});

it('changes hear of what is written until they are closed, each of its own', () => {
  const params = Parameters.create(start);
  const [first, second] = [params.changes(), params.changes()];
  params.load({ b: [1] });
  first.close();
  params.load({ a: [1, 1] });
  expect([first.take(), second.take()]).toEqual([
    new Map([[1, null]]),
    new Map([
      [0, null],
      [1, null],
    ]),
  ]);
});

it('places in the log are told apart by topic, and weights from none have none', () => {
  const origins = new Origins();
  const places = ['g', 'h', 'g'].map((topic, i) => ({ topic, partition: i, offset: 10 * i }));
  const facts = places.map((place, version) => origins.factsOf({ version, ...origins.of(place, version) }));
  expect(facts).toEqual(places.map((position, version) => ({ version, madeAtMs: version, position })));
  expect(origins.factsOf({ version: 5, ...origins.of(null, 6) })).toEqual({ version: 5, madeAtMs: 6, position: null });
});
