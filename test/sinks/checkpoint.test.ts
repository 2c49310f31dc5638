import {
  type CheckpointOptions,
  type CheckpointStore,
  checkpoint,
  epochBoundary,
  GradientBatch,
  gradientBatch,
  metricReport,
  momentum,
  Parameters,
  type RejectionSink,
  type TrainingEvent,
} from 'rxgrad';
import { Subject } from 'rxjs';
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { openCheckpoint } from '../../src/checkpoints/checkpoint-file.ts';
import { Sealer } from '../../src/checkpoints/sealer.ts';
import { RxgradError } from '../../src/errors.ts';

const everyMs = 10_000;
const model = () => Parameters.create({ w: { dims: [2] } });
const source = { done: () => {} };

/** An event as a transport would deliver it from an offset. */
function at(offset: number, event: TrainingEvent): TrainingEvent {
  const delivery = { position: { topic: 'g', partition: 0, offset }, source };
  return event instanceof GradientBatch
    ? new GradientBatch({ ...event.message, delivery }, event.pending)
    : { ...event, delivery };
}

const batch = (offset: number): TrainingEvent => at(offset, gradientBatch({ gradients: { w: Float32Array.of(1, offset) } }));
const nan = (offset: number): TrainingEvent => at(offset, gradientBatch({ gradients: { w: Float32Array.of(Number.NaN, 0) } }));

/** Notes what is written: the version, and the next offset in the log. */
class NotedStore implements CheckpointStore {
  readonly name = 'noted';
  readonly written: { version: number; next: number | undefined }[] = [];
  readonly #writing: (() => Promise<unknown>) | undefined;

  constructor(writing?: () => Promise<unknown>) {
    this.#writing = writing;
  }

  async write(version: number, file: Uint8Array): Promise<void> {
    const { positions } = openCheckpoint(file.slice(), this.name);
    this.written.push({ version, next: positions[0]?.[2] });
    await this.#writing?.();
  }

  async setAside(): Promise<string> {
    return this.name;
  }

  async abandoned(): Promise<[]> {
    return [];
  }

  async list(): Promise<[]> {
    return [];
  }

  async read(): Promise<Uint8Array> {
    throw new Error('nothing is kept');
  }

  async remove(): Promise<void> {}
  async pin(): Promise<void> {}
  async close(): Promise<void> {}
}

/** Waits until so many are written: the thread that seals them takes its own time. */
async function writtenTo(store: NotedStore, count: number): Promise<NotedStore['written']> {
  while (store.written.length < count) await new Promise(setImmediate);
  // The sink hears of it before the next turn.
  await new Promise(setImmediate);
  return store.written;
}

/** Trains on what is sent, and takes checkpoints. */
function training(store: CheckpointStore, options: CheckpointOptions, rejections: RejectionSink = {}) {
  const params = model();
  const events$ = new Subject<TrainingEvent>();
  const given = options.params === undefined ? options : { ...options, params };
  const ended = vi.fn();
  const subscription = events$
    .pipe(momentum(params, { rejections }), checkpoint(store, given))
    .subscribe({ complete: ended, error: ended });
  onTestFinished(() => subscription.unsubscribe());
  const send = (...events: TrainingEvent[]) => events.forEach((event) => void events$.next(event));
  return { params, events$, send, subscription, ended };
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  return () => vi.useRealTimers();
});

describe('checkpoints of a quiet stream', () => {
  it('the last update of a burst is in one, everyMs later at the latest', async () => {
    const store = new NotedStore();
    const { send } = training(store, { everyMs });
    send(batch(0), batch(1), batch(2));
    vi.advanceTimersByTime(everyMs - 1);
    expect(store.written).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(await writtenTo(store, 1)).toEqual([{ version: 3, next: 3 }]);
    // After a pause the first update is due at once; those behind it are not.
    vi.advanceTimersByTime(3 * everyMs);
    send(batch(3));
    expect(await writtenTo(store, 2)).toHaveLength(2);
    send(batch(4), batch(5));
    vi.advanceTimersByTime(everyMs);
    expect((await writtenTo(store, 3)).slice(1)).toEqual([
      { version: 4, next: 4 },
      { version: 6, next: 6 },
    ]);
  });

  it('none is taken while nothing is new', async () => {
    const store = new NotedStore();
    const { send } = training(store, { everyMs, params: model() });
    vi.advanceTimersByTime(10 * everyMs);
    expect(store.written).toEqual([]);
    send(batch(0));
    await writtenTo(store, 1);
    vi.advanceTimersByTime(10 * everyMs);
    await new Promise(setImmediate);
    expect(store.written).toEqual([{ version: 1, next: 1 }]);
  });

  it.each<[string, TrainingEvent]>([
    ['an epoch', at(1, epochBoundary(1))],
    ['a metric', at(1, metricReport({ name: 'loss', value: 1 }))],
    ['a rejected batch', nan(1)],
  ])('one contains %s that makes no version', async (_, event) => {
    const store = new NotedStore();
    const { send } = training(store, { everyMs });
    send(batch(0));
    vi.advanceTimersByTime(everyMs);
    await writtenTo(store, 1);
    send(event);
    vi.advanceTimersByTime(everyMs);
    expect(await writtenTo(store, 2)).toEqual([
      { version: 1, next: 1 },
      { version: 1, next: 2 },
    ]);
  });

  it('with params, it does so before the first version', async () => {
    const store = new NotedStore();
    const { send } = training(store, { everyMs, params: model() });
    send(at(0, epochBoundary(1)), nan(1));
    vi.advanceTimersByTime(everyMs);
    expect(await writtenTo(store, 1)).toEqual([{ version: 0, next: 2 }]);
  });

  it('the last one of a stream contains what made no version', async () => {
    const store = new NotedStore();
    const { send, events$, ended } = training(store, { everySteps: 1 });
    send(batch(0));
    await writtenTo(store, 1);
    send(at(1, epochBoundary(1)));
    events$.complete();
    expect(await writtenTo(store, 2)).toEqual([
      { version: 1, next: 1 },
      { version: 1, next: 2 },
    ]);
    expect(ended).toHaveBeenCalledOnce();
  });

  it('none is taken where an event is still being dealt with, but soon after', async () => {
    const store = new NotedStore();
    const room = Promise.withResolvers<void>();
    const { send, params } = training(store, { everyMs }, { next: () => room.promise });
    send(batch(0), nan(1), batch(2));
    expect(params.settled).toBe(false);
    vi.advanceTimersByTime(5 * everyMs);
    await new Promise(setImmediate);
    expect(store.written).toEqual([]);
    room.resolve();
    expect(await writtenTo(store, 1)).toEqual([{ version: 2, next: 3 }]);
  });

  it('one that came due while another was being written is taken, though nothing more comes', async () => {
    const writing = Promise.withResolvers<void>();
    const store = new NotedStore(() => writing.promise);
    const { send } = training(store, { everySteps: 2 });
    send(batch(0), batch(1));
    await writtenTo(store, 1);
    send(batch(2), batch(3));
    writing.resolve();
    await new Promise(setImmediate);
    vi.advanceTimersByTime(1);
    expect(await writtenTo(store, 2)).toEqual([
      { version: 2, next: 2 },
      { version: 4, next: 4 },
    ]);
  });

  it.each<[string, (one: ReturnType<typeof training>) => void]>([
    ['completes', ({ events$ }) => events$.complete()],
    ['fails', ({ events$ }) => events$.error(new Error('no more'))],
    ['is left', ({ subscription }) => subscription.unsubscribe()],
  ])('no timer is left where the stream %s', async (_, end) => {
    const one = training(new NotedStore(), { everyMs, atEnd: false });
    one.send(batch(0));
    expect(vi.getTimerCount()).toBe(1);
    end(one);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('none is taken before its time, however long that is', async () => {
    const store = new NotedStore();
    const { send } = training(store, { everyMs: 2 ** 40 });
    send(batch(0));
    vi.advanceTimersByTime(2 ** 31 - 2);
    await new Promise(setImmediate);
    expect(store.written).toEqual([]);
  });

  it('it is looked for again soon where a step was under way, and not before', async () => {
    const store = new NotedStore();
    const { send, params } = training(store, { everyMs });
    const settled = vi.spyOn(params, 'settled', 'get').mockReturnValue(false);
    send(batch(0));
    vi.advanceTimersByTime(everyMs + 19);
    expect(settled).toHaveBeenCalledOnce();
    vi.advanceTimersByTime(1);
    expect(settled).toHaveBeenCalledTimes(2);
    settled.mockReturnValue(true);
    vi.advanceTimersByTime(20);
    expect(await writtenTo(store, 1)).toEqual([{ version: 1, next: 1 }]);
  });

  it('one that is being written is waited for, and none is begun beside it', async () => {
    const writing = Promise.withResolvers<void>();
    const store = new NotedStore(() => writing.promise);
    const { send, events$, ended } = training(store, { everyMs, everySteps: 1 });
    send(batch(0));
    await writtenTo(store, 1);
    send(batch(1));
    vi.advanceTimersByTime(10 * everyMs);
    events$.complete();
    await new Promise(setImmediate);
    expect(store.written).toHaveLength(1);
    expect(ended).not.toHaveBeenCalled();
    writing.resolve();
    expect(await writtenTo(store, 2)).toEqual([
      { version: 1, next: 1 },
      { version: 2, next: 2 },
    ]);
    expect(ended).toHaveBeenCalledExactlyOnceWith();
  });

  it('with the parameters that a run begins with, none is taken of what is kept already', async () => {
    const store = new NotedStore();
    const { events$, ended } = training(store, { everySteps: 5, params: model() });
    events$.complete();
    await new Promise(setImmediate);
    expect(ended).toHaveBeenCalledOnce();
    expect(store.written).toEqual([]);
    // Without them, nothing is known before the first update.
    const other = training(store, { everySteps: 5 });
    other.events$.complete();
    await new Promise(setImmediate);
    expect(other.ended).toHaveBeenCalledOnce();
    expect(store.written).toEqual([]);
  });

  it('one that was taken by steps moves the next one by time', async () => {
    const store = new NotedStore();
    const { send } = training(store, { everyMs, everySteps: 2 });
    vi.advanceTimersByTime(everyMs / 2);
    send(batch(0), batch(1));
    await writtenTo(store, 1);
    expect(vi.getTimerCount()).toBe(1);
    send(batch(2));
    vi.advanceTimersByTime(everyMs - 1);
    await new Promise(setImmediate);
    expect(store.written).toHaveLength(1);
    vi.advanceTimersByTime(1);
    expect(await writtenTo(store, 2)).toEqual([
      { version: 2, next: 2 },
      { version: 3, next: 3 },
    ]);
  });

  it('by steps alone there is no timer, nor one where the stream has ended while one was being written', async () => {
    const writing = Promise.withResolvers<void>();
    const store = new NotedStore(() => writing.promise);
    const bySteps = training(store, { everySteps: 2 });
    expect(vi.getTimerCount()).toBe(0);
    bySteps.send(batch(0), batch(1));
    await writtenTo(store, 1);
    expect(vi.getTimerCount()).toBe(0);
    const ending = new NotedStore(() => writing.promise);
    const { send, events$, ended } = training(ending, { everyMs, everySteps: 2, atEnd: false });
    send(batch(0), batch(1));
    await writtenTo(ending, 1);
    events$.complete();
    writing.resolve();
    await new Promise(setImmediate);
    expect(ended).toHaveBeenCalledOnce();
    expect(vi.getTimerCount()).toBe(0);
  });

  it('of parameters that come from a checkpoint, none is taken before there is news', async () => {
    const params = model();
    params.load({ w: [1, 2] }, { version: 7 });
    const store = new NotedStore();
    const ended = vi.fn();
    const events$ = new Subject<TrainingEvent>();
    events$.pipe(momentum(params), checkpoint(store, { everyMs, params })).subscribe({ complete: ended });
    vi.advanceTimersByTime(5 * everyMs);
    events$.complete();
    await new Promise(setImmediate);
    expect(ended).toHaveBeenCalledOnce();
    expect(store.written).toEqual([]);
  });

  it('a stream that fails says why, and passes on what came before', () => {
    const seen = vi.fn();
    const updates$ = new Subject<never>();
    updates$.pipe(checkpoint(new NotedStore(), { everyMs })).subscribe({ error: seen });
    updates$.error('why');
    expect(seen).toHaveBeenCalledExactlyOnceWith('why');
  });

  it('its timer keeps no process alive', () => {
    vi.useRealTimers();
    const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    const before = timers();
    training(new NotedStore(), { everyMs }).send(batch(0));
    expect(timers()).toBe(before);
  });
});

describe('a store of checkpoints that another one may take over', () => {
  const fenced = new RxgradError('fenced', { where: 'store', problem: 'another one writes' });

  function watched(confirm: () => Promise<void>) {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'setInterval', 'clearInterval'] });
    const store: CheckpointStore = Object.assign(new NotedStore(), { confirmOwner: vi.fn(confirm) });
    return { ...training(store, { everyMs: 1e9, atEnd: false }), asked: store.confirmOwner as ReturnType<typeof vi.fn> };
  }

  it('is asked every two seconds, also while nothing comes, until the stream is left', async () => {
    const { asked, subscription, ended } = watched(async () => {});
    await vi.advanceTimersByTimeAsync(1999);
    expect(asked).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(4001);
    expect(asked).toHaveBeenCalledTimes(3);
    subscription.unsubscribe();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(asked).toHaveBeenCalledTimes(3);
    expect(ended).not.toHaveBeenCalled();
  });

  it('ends the stream where it was taken over', async () => {
    const { asked, ended } = watched(() => Promise.reject(fenced));
    await vi.advanceTimersByTimeAsync(2000);
    expect(ended).toHaveBeenCalledExactlyOnceWith(fenced);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(asked).toHaveBeenCalledOnce();
  });

  it('ends no stream where it only cannot be asked', async () => {
    const { asked, ended } = watched(() => Promise.reject(new Error('out of reach')));
    await vi.advanceTimersByTimeAsync(20_000);
    expect(asked).toHaveBeenCalledTimes(10);
    expect(ended).not.toHaveBeenCalled();
  });

  it('is asked once more when the stream completes', async () => {
    for (const [confirm, told] of [
      [async () => {}, []],
      [() => Promise.reject(fenced), [fenced]],
    ] as const) {
      const { asked, events$, ended } = watched(confirm);
      events$.complete();
      await vi.advanceTimersByTimeAsync(0);
      expect(asked).toHaveBeenCalledOnce();
      expect(ended).toHaveBeenCalledExactlyOnceWith(...told);
    }
  });

  it('tells nobody who has left', async () => {
    const answer = Promise.withResolvers<void>();
    const { subscription, ended } = watched(() => answer.promise);
    const unhandled = vi.fn();
    process.on('unhandledRejection', unhandled);
    onTestFinished(() => void process.off('unhandledRejection', unhandled));
    await vi.advanceTimersByTimeAsync(2000);
    subscription.unsubscribe();
    answer.reject(fenced);
    await new Promise(setImmediate);
    expect(ended).not.toHaveBeenCalled();
    expect(unhandled).not.toHaveBeenCalled();
  });
});

it.each([1, 5])('a checkpoint that fails once the stream was left is nobody’s concern, of %i', async (maxFailuresInARow) => {
  const writing = Promise.withResolvers<void>();
  const store = new NotedStore(() => writing.promise);
  const { send, subscription, ended } = training(store, { everySteps: 1, maxFailuresInARow });
  const [warned, unhandled, closed] = [vi.fn(), vi.fn(), vi.spyOn(Sealer.prototype, 'close')];
  process.on('warning', warned);
  process.on('unhandledRejection', unhandled);
  onTestFinished(() => {
    process.off('warning', warned);
    process.off('unhandledRejection', unhandled);
    closed.mockRestore();
  });
  send(batch(0));
  await writtenTo(store, 1);
  subscription.unsubscribe();
  await new Promise(setImmediate);
  // The thread that makes them is needed until then.
  expect(closed).not.toHaveBeenCalled();
  writing.reject(new Error('closed'));
  await new Promise(setImmediate);
  expect(closed).toHaveBeenCalledOnce();
  expect([ended, warned, unhandled].map(({ mock }) => mock.calls)).toEqual([[], [], []]);
});

it('ten checkpoints that fail in a row end the training, unless another number is given', async () => {
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  onTestFinished(() => void warned.mockRestore());
  const store = new NotedStore(() => Promise.reject(new Error('the disk is full')));
  const { send, ended } = training(store, { everySteps: 1 });
  for (let i = 0; i < 10; i++) {
    expect(ended).not.toHaveBeenCalled();
    send(batch(i));
    await writtenTo(store, i + 1);
    await new Promise(setImmediate);
  }
  expect(ended).toHaveBeenCalledExactlyOnceWith(
    expect.objectContaining({
      key: 'checkpointsFail',
      details: { count: 10, last: 'the disk is full' },
      cause: new Error('the disk is full'),
    }),
  );
  expect(warned).toHaveBeenCalledTimes(9);
  expect(warned).toHaveBeenCalledWith(expect.stringContaining('the disk is full'), { code: 'RXGRAD_CHECKPOINT_FAILED' });
});

it.each<[object, RegExp]>([
  [{}, /checkpoint: expected everySteps or everyMs, got neither/],
  [{ everySteps: 0 }, /everySteps: expected >=1/],
  [{ everyMs: 0 }, /everyMs: expected/],
  [{ everyMs: 1, params: {} }, /params: expected Parameters/],
  [{ everyMs: 1, atEnd: 1 }, /atEnd: expected/],
  [{ everyMs: 1, maxFailuresInARow: 0 }, /maxFailuresInARow: expected >=1/],
  [{ everyMs: 1, every: 1 }, /every: expected no such option/],
])('refuses %o', (options, message) => {
  expect(() => checkpoint(new NotedStore(), options)).toThrow(message);
});
