import { setTimeout as delay } from 'node:timers/promises';
import { isRxgradError, memoryTransport, Parameters, publishWeights, type Transport, weightsFrom } from 'rxgrad';
import { lastValueFrom, of, Subject } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { RxgradError } from '../../src/errors.ts';
import { WeightsUpdate } from '../../src/optimizers/weights-update.ts';
import { readWeightsFile } from '../../src/weights/weights-file.ts';
import { eventually } from '../eventually.ts';
import { batchOf, bitsOf, compacted, kindOf, recordsOf, replay, Training, versionOf } from './training.ts';

const base = { topic: 'weights', model: 'm' } as const;
const row = (seed: number) => batchOf({ rows: [seed % 40], dense: [], seed });

/** A transport whose writes end when they are told to. */
function slow(transport: Transport) {
  const writes: { readonly end: (error?: Error) => void }[] = [];
  const slowed: Transport = {
    ...transport,
    async writer(id) {
      const writer = await transport.writer(id);
      return {
        ...writer,
        async write(records) {
          const { promise, resolve, reject } = Promise.withResolvers<void>();
          writes.push({ end: (error) => (error ? reject(error) : resolve()) });
          await promise;
          return writer.write(records);
        },
      };
    },
  };
  return { slowed, writes };
}

describe('publishWeights', () => {
  it('cuts at what a header may have, too', { timeout: 60_000 }, async () => {
    const transport = memoryTransport();
    const names = Array.from({ length: 12_000 }, (_, i) => `${i}`.padEnd(400, 'é'));
    const params = Parameters.create(Object.fromEntries(names.map((name) => [name, { dims: [1] }])));
    const publishing = of(updateOf(params)).pipe(publishWeights(transport, { ...base, everySteps: 1, maxPartBytes: 64 << 20 }));
    await lastValueFrom(publishing);
    const files = (await recordsOf(transport, 'weights')).map(({ value }) => readWeightsFile(value!));
    expect(files.length).toBeGreaterThan(1);
    expect(
      files.flatMap((file) => (typeof file === 'function' ? [file('part').message] : file.pieces.map(({ name }) => name))),
    ).toEqual(names);
  });

  it('fails before it publishes what no replica reads', async () => {
    const transport = memoryTransport();
    const params = Parameters.create({ w: { dims: Array<number>(17).fill(1) } });
    const publishing = of(updateOf(params)).pipe(publishWeights(transport, { ...base, everySteps: 1 }));
    await expect(lastValueFrom(publishing)).rejects.toThrow('a shape of at most 16 sizes for "w"');
    expect(await transport.endOffsets('weights')).toEqual([0]);
  });

  it('sends snapshots, and between them the rows that were touched', async () => {
    const transport = memoryTransport();
    const training = new Training(transport, { ...base, everySteps: 1, conflate: false, snapshotEvery: 4 });
    for (let seed = 0; seed < 6; seed++) training.push(row(seed));
    await training.complete();
    const records = (await recordsOf(transport, 'weights')).filter(({ value }) => value);
    expect(records.map(kindOf)).toEqual(['snapshot', 'delta', 'delta', 'delta', 'snapshot', 'delta']);
    expect(records.map(({ headers }) => String(headers.ce_weights).replace(/crc32=\d+/, 'crc32'))).toEqual([
      'version=1, sequence=1, kind=snapshot, shard=0, shards=1, part=0, parts=1, crc32, course="a course"',
      ...[2, 3, 4].map(
        (n) =>
          `version=${n}, sequence=${n}, kind=delta, base=${n - 1}, shard=0, shards=1, part=0, parts=1, crc32, course="a course"`,
      ),
      'version=5, sequence=5, kind=snapshot, shard=0, shards=1, part=0, parts=1, crc32, course="a course"',
      'version=6, sequence=6, kind=delta, base=5, shard=0, shards=1, part=0, parts=1, crc32, course="a course"',
    ]);
    expect(records[1]!.value!.byteLength).toBeLessThan(1000);
    // Compaction leaves the last snapshot and what follows it, with marks of what is gone.
    const left = compacted(await recordsOf(transport, 'weights'), Number.POSITIVE_INFINITY);
    expect(left.filter(({ value }) => value).map(versionOf)).toEqual([5, 6]);
  });

  it('leaves deltas without a gap while those that a snapshot replaces are taken away', async () => {
    const transport = memoryTransport();
    const training = new Training(transport, { ...base, everySteps: 1, conflate: false, snapshotEvery: 5 });
    for (let seed = 0; seed < 6; seed++) training.push(row(seed));
    await training.complete();
    const records = await recordsOf(transport, 'weights');
    expect(records.filter(({ value }) => !value)).toHaveLength(4);
    const seen = new Map<string, number>();
    for (const record of records) {
      const [, sequence] = /sequence=(\d+)/.exec(String(record.headers.ce_weights ?? '')) ?? [];
      if (record.value) seen.set(String(record.key), Number(sequence));
      else seen.delete(String(record.key));
      // What a replica reads that comes now: a snapshot, and what follows it.
      const sequences = [...seen.values()].toSorted((a, b) => a - b);
      expect(sequences).toEqual(sequences.map((_, i) => sequences[0]! + i));
    }
  });

  it('sends a snapshot where changes would not be clearly smaller', async () => {
    const transport = memoryTransport();
    const training = new Training(transport, { ...base, everySteps: 3, conflate: false });
    const wide = (rows: readonly number[]) => {
      for (const [seed, row] of rows.entries()) training.push(batchOf({ rows: [], wide: row, dense: [], seed }));
    };
    wide([0, 0, 0]);
    // More than a quarter of its rows, and it is most of the model.
    wide([0, 1, 2]);
    wide([0, 1, 0]);
    await training.complete();
    const records = (await recordsOf(transport, 'weights')).filter(({ value }) => value);
    expect(records.map(kindOf)).toEqual(['snapshot', 'snapshot', 'delta']);
  });

  it('lets the newest weights take the place of those that wait', async () => {
    const { slowed, writes } = slow(memoryTransport());
    const training = new Training(slowed, { ...base, everySteps: 2 });
    training.push(row(0));
    training.push(row(1));
    await eventually(() => expect(writes).toHaveLength(1));
    for (let seed = 2; seed < 21; seed++) training.push(row(seed));
    await training.applied();
    expect(training.params.version).toBe(21);
    writes[0]!.end();
    await eventually(() => expect(writes).toHaveLength(2));
    writes[1]!.end();
    await training.complete();
    const { shown } = await replay(slowed, 'weights');
    expect(shown.map(({ version }) => version)).toEqual([2, 21]);
    expect(shown[1]!.bits).toBe(training.history.get(21));
  });

  it('holds the scan where every version is published', async () => {
    const { slowed, writes } = slow(memoryTransport());
    const training = new Training(slowed, { ...base, everySteps: 1, conflate: false });
    for (let seed = 0; seed < 3; seed++) training.push(row(seed));
    for (let sent = 1; sent <= 3; sent++) {
      await eventually(() => expect(writes).toHaveLength(sent));
      await delay(5);
      expect(training.params.version).toBe(sent);
      writes[sent - 1]!.end();
    }
    await training.complete();
    expect((await replay(slowed, 'weights')).shown.map(({ version }) => version)).toEqual([1, 2, 3]);
  });

  it('says so where updates come late', async () => {
    const training = new Training(memoryTransport(), { ...base, everySteps: 1 });
    const { params } = training;
    const late = updateOf(params);
    training.push(row(0));
    const errors: unknown[] = [];
    of(late)
      .pipe(publishWeights(memoryTransport(), { ...base, everySteps: 1, conflate: false }))
      .subscribe({ error: (error) => errors.push(error) });
    expect(errors).toMatchObject([{ key: 'invalidOption', details: { option: 'publishWeights: conflate' } }]);
    training.crash();
  });

  it('publishes at most every so many milliseconds, and the last version at the end', async () => {
    const transport = memoryTransport();
    const training = new Training(transport, { ...base, everyMs: 1000 });
    training.push(row(0));
    await eventually(async () => expect(await recordsOf(transport, 'weights')).toHaveLength(1));
    for (let seed = 1; seed < 4; seed++) training.push(row(seed));
    // Nothing more comes: what is due is sent all the same.
    await eventually(async () => expect(await recordsOf(transport, 'weights')).toHaveLength(2));
    training.push(row(5));
    await training.complete();
    expect((await replay(transport, 'weights')).shown.map(({ version }) => version)).toEqual([1, 4, 5]);
  });

  it('tries again where that may help, and fails with the error where it does not', async () => {
    const { slowed, writes } = slow(memoryTransport());
    const training = new Training(slowed, { ...base, everySteps: 1 });
    training.push(row(0));
    await eventually(() => expect(writes).toHaveLength(1));
    writes[0]!.end(new RxgradError('transportInterrupted', { transport: 't', problem: 'p', advice: 'a' }));
    await eventually(() => expect(writes).toHaveLength(2));
    writes[1]!.end(new RxgradError('transportFailed', { transport: 't', problem: 'p', advice: 'a' }));
    expect(await training.done).toMatchObject({ key: 'transportFailed' });
  });

  it('ends with fenced when another takes over its id', async () => {
    const transport = memoryTransport();
    const zombie = new Training(transport, { ...base, everySteps: 1 });
    zombie.push(row(0));
    await eventually(async () => expect(await recordsOf(transport, 'weights')).toHaveLength(1));
    const heir = new Training(transport, { ...base, everySteps: 1 });
    heir.push(row(0));
    heir.push(row(1));
    await heir.complete();
    for (let seed = 1; seed < 4; seed++) zombie.push(row(seed));
    const error = await zombie.done;
    expect(isRxgradError(error) && error.key).toBe('fenced');
    expect((await recordsOf(transport, 'weights')).filter(({ value }) => value).map(versionOf)).toEqual([1, 2]);
  });

  it('answers requests with a snapshot, also while no step is taken', async () => {
    const transport = memoryTransport();
    await transport.createTopic('requests');
    const training = new Training(transport, { ...base, everySteps: 1, conflate: false, requests: 'requests' });
    for (let seed = 0; seed < 4; seed++) training.push(row(seed));
    await training.applied();
    const records = await recordsOf(transport, 'weights');
    // A topic on which a record was lost; what follows on the real one, follows here.
    const broken = memoryTransport();
    await broken.createTopic('weights');
    await broken.produce(
      'weights',
      records.filter((_, i) => i !== 1),
    );
    const relay = await transport.consume({
      topic: 'weights',
      from: new Map([[0, records.length]]),
      deliver: async (_, __, more) => void (await broken.produce('weights', more)),
      onError: () => undefined,
    });
    const shown: number[] = [];
    const replica = weightsFrom(
      { ...broken, produce: (topic, asked) => transport.produce(topic, asked) },
      { ...base, requests: 'requests' },
    );
    const subscription = replica.subscribe(({ version, params }) => {
      shown.push(version);
      expect(bitsOf(params)).toBe(training.history.get(version));
    });
    await eventually(() => expect(shown).toEqual([1, 4]));
    expect((await recordsOf(transport, 'requests')).length).toBe(1);
    subscription.unsubscribe();
    await relay.stop();
    await training.complete();
  });

  it('halves messages where replicas may be rounded', async () => {
    const transport = memoryTransport();
    const training = new Training(transport, { ...base, everySteps: 1, conflate: false, dtype: 'BF16' });
    for (let seed = 0; seed < 5; seed++) training.push(batchOf({ rows: [seed], dense: ['dense.w', 'scale'], seed }));
    await training.complete();
    const { shown } = await replay(transport, 'weights');
    expect(shown.map(({ version }) => version)).toEqual([1, 2, 3, 4, 5]);
    for (const { name, data } of shown.at(-1)!.update.params) {
      const trained = training.params.get(name).data;
      for (const [i, value] of data.entries())
        expect(Math.abs(value - trained[i]!)).toBeLessThanOrEqual(Math.abs(trained[i]!) / 256);
    }
  });

  it('publishes what a replica shows again', async () => {
    const transport = memoryTransport();
    const training = new Training(transport, { ...base, everySteps: 1, conflate: false });
    for (let seed = 0; seed < 5; seed++) training.push(row(seed));
    await training.complete();
    const published$ = weightsFrom(transport, { ...base, until: 'end' }).pipe(
      publishWeights(transport, { ...base, topic: 'again', everySteps: 1, conflate: false }),
    );
    await new Promise((resolve, reject) => published$.subscribe({ complete: () => resolve(null), error: reject }));
    const { shown } = await replay(transport, 'again');
    expect(shown.map(({ version }) => version)).toEqual([1, 2, 3, 4, 5]);
    for (const { version, bits } of shown) expect(bits).toBe(training.history.get(version));
    expect(shown.at(-1)!.update).toMatchObject({ step: 5, lr: expect.closeTo(0.1), epoch: 0 });
  });

  it('leaves what is not finite out, so that the last finite weights stay on the topic', async () => {
    const transport = memoryTransport();
    const params = Parameters.create({ w: { dims: [2] } });
    const updates$ = new Subject<WeightsUpdate>();
    const done = lastValueFrom(updates$.pipe(publishWeights(transport, { ...base, everySteps: 1 })));
    for (const [version, value] of [1, Number.NaN, 3, Number.POSITIVE_INFINITY].entries()) {
      params.load({ w: [0, value] }, { version: version + 1 });
      updates$.next(updateOf(params));
      await delay(5);
    }
    updates$.complete();
    await done;
    const { shown } = await replay(transport, 'weights');
    expect(shown.map(({ version }) => version)).toEqual([1, 3]);
  });

  it('publishes what a gate lets through, and not the newest weights', async () => {
    const transport = memoryTransport();
    const params = Parameters.create({ w: { dims: [3] } });
    params.reader();
    const updates$ = new Subject<WeightsUpdate>();
    const done = lastValueFrom(updates$.pipe(publishWeights(transport, { ...base, everySteps: 100 })));
    for (const version of [2, 7, 9]) {
      params.load({ w: [version, version, version] }, { version });
      const update = updateOf(params);
      update.kept = await params.kept.keep();
      // The scan has gone on when the gate decides.
      params.load({ w: [100, 100, 100] }, { version: version + 1 });
      updates$.next(update);
      await delay(5);
    }
    updates$.complete();
    await done;
    const { shown } = await replay(transport, 'weights');
    expect(shown.map(({ version }) => version)).toEqual([2, 7, 9]);
    for (const { version, update } of shown) expect(update.facts.version).toBe(version);
    const replica = Parameters.create({ w: { dims: [3] } });
    await lastValueFrom(weightsFrom(transport, { ...base, into: replica, until: 'end' }));
    expect([...replica.get('w').data]).toEqual([9, 9, 9]);
  });

  it.each([
    [{ everySteps: 1, everyMs: 1 }, 'everySteps or everyMs'],
    [{}, 'everySteps or everyMs'],
    [{ everySteps: 1, shard: 2, shards: 2 }, 'shard'],
    [{ everyMs: 1, shards: 2 }, 'everyMs'],
    [{ everySteps: 1, shards: 2, conflate: true }, 'conflate'],
    [{ everySteps: 1, maxPartBytes: 10 }, 'maxPartBytes'],
    [{ everySteps: 1, dtype: 'I8' }, 'dtype'],
  ])('refuses %j', (options, part) => {
    expect(() => publishWeights(memoryTransport(), { ...base, ...options } as never)).toThrow(part);
  });
});

function updateOf(params: Parameters): WeightsUpdate {
  return new WeightsUpdate(params, null, {
    version: params.version,
    step: 1,
    epoch: 0,
    lr: 0,
    gradientNorm: 0,
    clipped: false,
    staleness: undefined,
    position: null,
    durationMs: 0,
  });
}
