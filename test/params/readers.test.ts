import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { gradientBatch, hotSwap, optimizer, Parameters, WeightsReader } from 'rxgrad';
import { Subject } from 'rxjs';
import { afterEach, describe, expect, it, vi } from 'vitest';

afterEach(() => {
  vi.restoreAllMocks();
});

/** Weights that carry their version's number, each step one more, shown at once. */
function stepped(length = 4) {
  const params = Parameters.create({ w: { dims: [length] } });
  const batches$ = new Subject<ReturnType<typeof gradientBatch>>();
  const failures: unknown[] = [];
  batches$
    .pipe(optimizer(params, { type: 'SGD', lr: 1 }), hotSwap({ params, swap: () => void params.swap() }))
    .subscribe({ error: (error: unknown) => failures.push(error) });
  const batch = gradientBatch({ gradients: { w: new Float32Array(length).fill(-1) } });
  return { params, failures, step: () => batches$.next(batch) };
}

/** Turns of the event loop in which whoever is woken goes on. */
async function turns(count = 20): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise(setImmediate);
}

describe('a reader that reads on', () => {
  it('is not taken for dead by the clock, and the step that waits for it follows', async () => {
    const { params, failures, step } = stepped();
    const reader = params.reader();
    const slot = reader.acquire();
    step();
    step();
    expect(params.version).toBe(1);
    const now = performance.now();
    vi.spyOn(performance, 'now').mockImplementation(() => now + 3_600_000);
    vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 3_600_000);
    // Past a look again, which comes twice a second.
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect({ failures, version: params.version }).toEqual({ failures: [], version: 1 });
    expect([...reader.weights(slot).w!]).toEqual([0, 0, 0, 0]);
    reader.release(slot);
    await expect.poll(() => params.version).toBe(2);
    expect(failures).toEqual([]);
  });

  it('is told of after a while', async () => {
    const { params, step } = stepped();
    const reader = params.reader();
    const slot = reader.acquire();
    step();
    const value = () => new Promise<'timed-out'>((resolve) => setImmediate(resolve, 'timed-out'));
    vi.spyOn(Atomics, 'waitAsync').mockImplementation(() => ({ async: true, value: value() }));
    const warned = once(process, 'warning');
    step();
    const [warning] = await warned;
    expect(warning).toMatchObject({ code: 'RXGRAD_READER_HOLDS', message: expect.stringMatching(/for 10 s by this thread/) });
    reader.release(slot);
    await expect.poll(() => params.version).toBe(2);
  });

  it('is waited for again where another let go of the same buffer first', async () => {
    const { params, step } = stepped();
    const readers = [params.reader(), params.reader()];
    const slots = readers.map((reader) => reader.acquire());
    step();
    step();
    readers[0]!.release(slots[0]!);
    await turns();
    expect(params.version).toBe(1);
    expect([...readers[1]!.weights(slots[1]!).w!]).toEqual([0, 0, 0, 0]);
    readers[1]!.release(slots[1]!);
    await expect.poll(() => params.version).toBe(2);
  });

  it('is not waited for once another buffer is the one to be written', async () => {
    const { params, failures, step } = stepped();
    const [first, second] = [params.reader(), params.reader()];
    await params.kept.keep();
    step();
    const held = first.acquire();
    params.pin(params.kept.find(0));
    // What is live is a copy, so the step is taken in place, which a reader from before still reads.
    step();
    await turns();
    expect(params.version).toBe(1);
    // Now that is live again, and will be read for ever; the other side is free.
    params.unpin();
    second.acquire();
    await expect.poll(() => params.version).toBe(2);
    expect([...first.weights(held).w!]).toEqual([1, 1, 1, 1]);
    expect(failures).toEqual([]);
  });
});

describe('a reader whose thread was ended in the middle of a read', () => {
  it('lets go of what it held', async () => {
    const { params, failures, step } = stepped();
    const worker = new Worker(new URL('./dying-reader.worker.ts', import.meta.url), { workerData: params.share() });
    await once(worker, 'message');
    step();
    step();
    await turns();
    expect(params.version).toBe(1);
    await worker.terminate();
    await expect.poll(() => params.version).toBe(2);
    // Nobody reads any more: steps are taken in place again.
    expect(params.leftRight.target).toBe(params.leftRight.live);
    expect(failures).toEqual([]);
  });

  it('lets go of nothing that others hold', async () => {
    const { params, step } = stepped();
    const stays = params.reader();
    const worker = new Worker(new URL('./dying-reader.worker.ts', import.meta.url), { workerData: params.share() });
    const slot = stays.acquire();
    await once(worker, 'message');
    step();
    step();
    await worker.terminate();
    // Its end is noticed where somebody looks.
    await turns();
    expect([params.leftRight.isFree(slot), params.leftRight.readers.any, params.version]).toEqual([false, true, 1]);
    stays.release(slot);
    await expect.poll(() => params.version).toBe(2);
  });

  it('lets go when it is told so, where another thread has started it', async () => {
    const { params, step } = stepped();
    const shared = params.share();
    WeightsReader.attach(shared).acquire();
    const stays = params.reader();
    step();
    step();
    await turns();
    expect(params.version).toBe(1);
    params.letGo(shared);
    await expect.poll(() => params.version).toBe(2);
    params.letGo(shared);
    // The other one is still there.
    expect(params.leftRight.target).not.toBe(params.leftRight.live);
    stays.close();
    expect(params.leftRight.target).toBe(params.leftRight.live);
  });
});

describe('a reader', () => {
  it('finds its marks where memory had to grow for them', () => {
    const params = Parameters.create({ w: { dims: [1] } });
    const pages = params.arena.memory.buffer.byteLength;
    const readers = Array.from({ length: 1000 }, () => params.reader());
    expect(params.arena.memory.buffer.byteLength).toBeGreaterThan(pages);
    for (const reader of readers) reader.close();
  });

  it('is one for each share()', () => {
    const params = Parameters.create({ w: { dims: [2] } });
    const shared = params.share();
    const first = WeightsReader.attach(shared);
    expect(() => WeightsReader.attach(shared)).toThrow(/WeightsReader.attach: expected what params.share\(\) returned/);
    first.close();
    expect(() => WeightsReader.attach(shared)).toThrow(/another reader has taken/);
    // What belonged to it is another's by now.
    const second = params.share();
    expect(second.reader.address).toBe(shared.reader.address);
    expect(() => WeightsReader.attach(shared)).toThrow(/another reader has taken/);
    WeightsReader.attach(second).close();
  });

  it('leaves nothing behind', () => {
    const params = Parameters.create({ w: { dims: [2] } });
    params.reader().close();
    const before = params.arena.allocate(64);
    for (let i = 0; i < 100; i++) {
      const reader = params.reader();
      reader.read(() => {});
      reader.close();
    }
    expect(params.arena.allocate(64)).toBe(before + 64);
    expect(params.leftRight.readers.any).toBe(false);
  });

  it('that closes while it reads keeps its mark', async () => {
    const { params, step } = stepped();
    const [reader, other] = [params.reader(), params.reader()];
    const slot = reader.acquire();
    reader.close();
    step();
    step();
    params.reader();
    await turns();
    expect(params.version).toBe(1);
    expect([...reader.weights(slot).w!]).toEqual([0, 0, 0, 0]);
    reader.release(slot);
    await expect.poll(() => params.version).toBe(2);
    other.close();
  });

  it('does not begin in the middle of a step that is taken in place, and nothing is loaded there', async () => {
    const params = Parameters.create({ w: { dims: [2] } });
    const { leftRight } = params;
    // As a scan that other threads are at.
    let busy = true;
    vi.spyOn(params.seat, 'busy', 'get').mockImplementation(() => busy);
    const slot = leftRight.begin();
    expect(slot).toBe(leftRight.live);
    expect(() => params.reader()).toThrow(/Expected a reader to be announced between two steps/);
    expect(() => params.load({ w: [1, 2] })).toThrow(/Expected weights to be loaded between two steps/);
    await expect(params.kept.keepLatest()).rejects.toThrow(/Expected version 0 to be kept between two steps/);
    expect(params.leftRight.readers.any).toBe(false);
    const free = params.whenFree();
    await turns();
    leftRight.commit(slot, 1, params.origins.of(null));
    busy = false;
    await free;
    const reader = params.reader();
    params.load({ w: [1, 2] });
    expect(reader.read(({ w }, version) => [version, ...w!])).toEqual([2, 1, 2]);
  });
});

describe('what a reader sees', () => {
  it('is let go of where the use of it fails, too', () => {
    const params = Parameters.create({ w: { dims: [2], data: [1, 2] } });
    const reader = params.reader();
    const failing = () => {
      throw new Error('used badly');
    };
    expect(() => reader.read(failing)).toThrow('used badly');
    expect(reader.read(({ w }, version) => [version, ...w!])).toEqual([0, 1, 2]);
    expect(params.leftRight.isFree(reader.live)).toBe(true);
  });

  it('is one buffer, of which it knows all that the writer does, and can have a copy', () => {
    const params = Parameters.create({ a: { dims: [2], data: [1, 2] }, between: { dims: [3] }, b: { dims: [20] } });
    const reader = params.reader();
    const position = { topic: 'g', partition: 2, offset: 7 };
    params.load({ b: Array.from({ length: 20 }, (_, i) => i) }, { version: 5, madeAtMs: 1000, position });
    const slot = reader.acquire();
    expect([reader.live, reader.liveVersion, reader.version(slot)]).toEqual([slot, 5, 5]);
    expect(params.origins.factsOf(reader.facts(slot))).toEqual({ version: 5, madeAtMs: 1000, position });
    expect(reader.weights(slot)).toBe(reader.weights(slot));
    const { offset, length } = params.places.at(-1)!;
    const copy = new Float32Array((offset + 4 * length) / 4 + 2).fill(-1);
    reader.copy(slot, new Uint8Array(copy.buffer));
    expect([...copy.subarray(0, 2), ...copy.subarray(offset / 4)]).toEqual([
      1,
      2,
      ...Array.from({ length: 20 }, (_, i) => i),
      -1,
      -1,
    ]);
    reader.release(slot);
  });

  it('is held as often as it was acquired', () => {
    const params = Parameters.create({ w: { dims: [1] } });
    const reader = params.reader();
    const slot = reader.acquire();
    reader.hold(slot);
    reader.release(slot);
    expect(params.leftRight.isFree(slot)).toBe(false);
    reader.release(slot);
    expect(params.leftRight.isFree(slot)).toBe(true);
  });
});

describe('readers', () => {
  it('are counted until each has closed, once', () => {
    const params = Parameters.create({ w: { dims: [1] } });
    const [first, second] = [params.reader(), params.reader()];
    first.close();
    first.close();
    expect(params.leftRight.readers.any).toBe(true);
    second.close();
    expect(params.leftRight.readers.any).toBe(false);
  });

  it('that were announced and never came count until they are let go', () => {
    const params = Parameters.create({ w: { dims: [1] } });
    const shared = params.share();
    expect(params.leftRight.readers.any).toBe(true);
    params.letGo({ ...shared, reader: { ...shared.reader, id: 99 } });
    expect(params.leftRight.readers.any).toBe(true);
    params.letGo(shared);
    expect(params.leftRight.readers.any).toBe(false);
    expect(() => WeightsReader.attach(shared)).toThrow(/another reader has taken/);
  });

  it('that are let go take their marks on every buffer along, and no one else’s', () => {
    const params = Parameters.create({ w: { dims: [1] } });
    const shared = [params.share(), params.share()];
    const [gone, stays] = shared.map((one) => WeightsReader.attach(one));
    const slots = [gone!.acquire(), gone!.acquire()];
    stays!.acquire();
    params.load({ w: [1] });
    slots.push(gone!.acquire());
    params.letGo(shared[0]!);
    expect(slots.map((slot) => params.leftRight.isFree(slot))).toEqual([false, false, true]);
    params.letGo(shared[1]!);
    expect(slots.map((slot) => params.leftRight.isFree(slot))).toEqual([true, true, true]);
  });

  it('wake everybody who waits, also where two wait for different buffers', async () => {
    const params = Parameters.create({ w: { dims: [1] } });
    const { leftRight } = params;
    const reader = params.reader();
    reader.hold(0);
    reader.hold(1);
    const freed: number[] = [];
    const waits = [0, 1].map((slot) => leftRight.readers.untilFree(() => slot).then(() => freed.push(slot)));
    await turns();
    expect(freed).toEqual([]);
    const signalled = leftRight.table.signals.count;
    reader.release(0);
    expect(leftRight.table.signals.count).toBe(signalled + 1);
    await waits[0];
    expect(freed).toEqual([0]);
    reader.release(1);
    await waits[1];
    expect(freed).toEqual([0, 1]);
    // Nobody waits any more: what is released signals nothing.
    const { count } = leftRight.table.signals;
    reader.hold(1);
    reader.release(1);
    expect(leftRight.table.signals.count).toBe(count);
  });

  it('signal the buffer that is waited for alone, when its last mark goes', async () => {
    const params = Parameters.create({ w: { dims: [1] } });
    const { leftRight } = params;
    const [reader, other] = [params.reader(), params.reader()];
    for (const slot of [0, 1, 1]) reader.hold(slot);
    const wait = leftRight.readers.untilFree(() => 1);
    const { count } = leftRight.table.signals;
    const signalled = () => leftRight.table.signals.count - count;
    reader.release(0);
    reader.release(1);
    expect(signalled()).toBe(0);
    reader.release(1);
    expect(signalled()).toBe(1);
    await wait;
    other.close();
    expect(signalled()).toBe(1);
  });
});

it('a side that is being written is not shown before it is whole', () => {
  const params = Parameters.create({ w: { dims: [1] } });
  const reader = params.reader();
  const { leftRight } = params;
  const slot = leftRight.begin();
  expect(slot).not.toBe(leftRight.live);
  leftRight.show(slot);
  expect(reader.liveVersion).toBe(0);
  expect(leftRight.live).not.toBe(slot);
  leftRight.commit(slot, 1, params.origins.of(null));
  expect(leftRight.live).toBe(slot);
  expect(reader.liveVersion).toBe(1);
});
