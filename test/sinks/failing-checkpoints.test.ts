import { setImmediate as turn } from 'node:timers/promises';
import { type CheckpointStore, checkpoint, deadLetters, momentum, type Observation, observations } from 'rxgrad';
import { from, lastValueFrom, Subject } from 'rxjs';
import { expect, it, onTestFinished, vi } from 'vitest';
import { Sealer } from '../../src/checkpoints/sealer.ts';
import { RxgradError } from '../../src/errors.ts';
import type { TrainingEvent } from '../../src/events.ts';
import { eventually } from '../eventually.ts';
import { batch, batchOf, model } from '../optimizers/batches.ts';
import { slowTransport } from './slow-transport.ts';

const topic = 'g.dead';
const nan = batchOf({ c: Float32Array.of(Number.NaN) });

/** A store that does with each version what it is told to. */
function storeThat(write: (version: number) => void): CheckpointStore {
  return {
    name: 'store',
    write: async (version) => write(version),
    list: async () => [],
    read: () => Promise.reject(new Error('nothing is kept')),
    remove: async () => {},
    setAside: async () => 'aside',
    abandoned: async () => [],
    pin: async () => {},
    close: async () => {},
  };
}

/** Trains on one batch after the other, each when the checkpoint of the one before it was tried. */
async function trainOn(batches: number, fails: (version: number) => Error | null) {
  const warnings = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  onTestFinished(() => void warnings.mockRestore());
  const tried: number[] = [];
  const store = storeThat((version) => {
    tried.push(version);
    const error = fails(version);
    if (error) throw error;
  });
  const events$ = new Subject<TrainingEvent>();
  let error: unknown = null;
  const subscription = events$
    .pipe(momentum(model()), checkpoint(store, { everySteps: 1, atEnd: false, maxFailuresInARow: 2 }))
    .subscribe({ error: (reason) => (error = reason) });
  onTestFinished(() => subscription.unsubscribe());
  for (let version = 1; version <= batches && !error; version++) {
    events$.next(batch(version));
    await eventually(() => expect(tried).toContain(version));
    await turn();
  }
  return { tried, error, warned: warnings.mock.calls.length };
}

it('checkpoints are taken at the multiples of everySteps alone, and at the end where that is wanted', async () => {
  const take = async (atEnd: boolean): Promise<number[]> => {
    const versions: number[] = [];
    const store = storeThat((version) => void versions.push(version));
    const events$ = new Subject<TrainingEvent>();
    const ended = lastValueFrom(events$.pipe(momentum(model()), checkpoint(store, { everySteps: 3, atEnd })));
    for (let version = 1; version <= 7; version++) {
      events$.next(batch(version));
      if (version % 3 === 0) await eventually(() => expect(versions).toContain(version));
      await turn();
    }
    events$.complete();
    await ended;
    return versions;
  };
  expect(await take(false)).toEqual([3, 6]);
  expect(await take(true)).toEqual([3, 6, 7]);
});

const full = () => new Error('the disk is full');

it('checkpoints that fail now and then, with others in between, never end the training', async () => {
  const { tried, error, warned } = await trainOn(7, (version) => (version % 2 === 1 ? full() : null));
  expect(error).toBeNull();
  expect(tried).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(warned).toBe(4);
});

it('checkpoints that fail in a row end it, with the last reason', async () => {
  const { tried, error, warned } = await trainOn(7, (version) => (version > 2 ? full() : null));
  expect(error).toMatchObject({ code: 'RXGRAD_CHECKPOINTS_FAIL', message: expect.stringContaining('the disk is full') });
  expect(tried).toEqual([1, 2, 3, 4]);
  expect(warned).toBe(1);
});

it('a writer that another one has taken over from ends it at once', async () => {
  const fenced = new RxgradError('fenced', { where: 'store', problem: 'another one writes' });
  const { tried, error } = await trainOn(3, () => fenced);
  expect(error).toBe(fenced);
  expect(tried).toEqual([1]);
});

it('a checkpoint is told of, with what it took', async () => {
  const seen: Observation[] = [];
  const observing = observations().subscribe((observation) => seen.push(observation));
  onTestFinished(() => observing.unsubscribe());
  const sizes: number[] = [];
  const store: CheckpointStore = { ...storeThat(() => {}), write: async (_, file) => void sizes.push(file.byteLength) };
  await lastValueFrom(from([batch(1)]).pipe(momentum(model()), checkpoint(store, { everySteps: 5 })));
  const told = seen.flatMap((one) => (one.kind === 'checkpoint' ? [one] : []));
  expect(told).toMatchObject([{ at: 'store', version: 1, bytes: sizes[0] }]);
  expect(told[0]!.sealedMs).toBeGreaterThan(0);
  expect(told[0]!.durationMs).toBeGreaterThanOrEqual(told[0]!.sealedMs);
  expect(told[0]!.durationMs).toBeLessThan(60_000);
});

it('a checkpoint that is ready waits for the dead letters of its state', async () => {
  const sealing = vi.spyOn(Sealer.prototype, 'seal');
  onTestFinished(() => void sealing.mockRestore());
  const { transport, waiting } = slowTransport(topic);
  const written: number[] = [];
  const events$ = new Subject<TrainingEvent>();
  const store = storeThat((version) => void written.push(version));
  const rejections = deadLetters(transport, { topic });
  const subscription = events$
    .pipe(momentum(model(), { rejections }), checkpoint(store, { everySteps: 1, atEnd: false }))
    .subscribe();
  onTestFinished(() => subscription.unsubscribe());
  events$.next(nan);
  events$.next(batch(1));
  await sealing.mock.results[0]!.value;
  for (let turns = 0; turns < 10; turns++) await turn();
  expect(written).toEqual([]);
  waiting[0]!.go();
  await eventually(() => expect(written).toEqual([1]));
});

it('checkpoints are tried again after a pause while their log cannot be reached, though nothing more comes', async () => {
  const warnings = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  onTestFinished(() => void warnings.mockRestore());
  const tried: number[] = [];
  const away = { transport: 'Kafka', problem: 'no broker can be reached', advice: 'Check brokers' };
  const cause = new RxgradError('transportFailed', away);
  const failed = new RxgradError('checkpointFailed', { store: 'store', what: 'writing', problem: 'away' }, { cause });
  const store = storeThat((version) => {
    tried.push(version);
    if (tried.length < 3) throw tried.length === 1 ? cause : failed;
  });
  const events$ = new Subject<TrainingEvent>();
  let error: unknown = null;
  const options = { everySteps: 1, atEnd: false, maxFailuresInARow: 3 };
  const subscription = events$
    .pipe(momentum(model()), checkpoint(store, options))
    .subscribe({ error: (reason) => (error = reason) });
  onTestFinished(() => subscription.unsubscribe());
  events$.next(batch(1));
  await eventually(() => expect(warnings).toHaveBeenCalled());
  // Each would be due.
  for (let version = 2; version <= 9; version++) events$.next(batch(version));
  expect(tried).toEqual([1]);
  await eventually(() => expect(tried).toHaveLength(3));
  expect(tried).toEqual([1, 9, 9]);
  expect(error).toBeNull();
});

it('checkpoints take their store over as the training starts, unless that was done before', async () => {
  const calls: string[] = [];
  const events$ = new Subject<TrainingEvent>();
  const storeOf = (tookOver: boolean, takeOver: () => Promise<void>): CheckpointStore => ({
    ...storeThat((version) => void calls.push(`write ${version}`)),
    tookOver,
    takeOver,
  });
  const training = (store: CheckpointStore) =>
    lastValueFrom(events$.pipe(momentum(model()), checkpoint(store, { everySteps: 1 })));
  const taken = Promise.withResolvers<void>();
  const ended = training(
    storeOf(false, async () => {
      calls.push('take over');
      await taken.promise;
    }),
  );
  expect(calls).toEqual(['take over']);
  events$.next(batch(1));
  for (let i = 0; i < 20; i++) await turn();
  expect(calls).toEqual(['take over']);
  taken.resolve();
  await eventually(() => expect(calls).toEqual(['take over', 'write 1']));
  events$.complete();
  await ended;
});

it('checkpoints of a store that was taken over before leave it at that, and one that cannot be taken over ends the stream', async () => {
  const takeOver = vi.fn(async () => {});
  const store = { ...storeThat(() => {}), tookOver: true, takeOver };
  await lastValueFrom(from([batch(1)]).pipe(momentum(model()), checkpoint(store, { everySteps: 1 })));
  expect(takeOver).not.toHaveBeenCalled();
  const other = { ...storeThat(() => {}), tookOver: false, takeOver: () => Promise.reject(new Error('no broker')) };
  const stream$ = new Subject<TrainingEvent>();
  await expect(lastValueFrom(stream$.pipe(momentum(model()), checkpoint(other, { everySteps: 1 })))).rejects.toThrow('no broker');
});
