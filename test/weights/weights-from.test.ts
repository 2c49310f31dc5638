import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import {
  embeddedLog,
  type Figures,
  gradientBatch,
  HotSwapSession,
  hotSwap,
  type LogRecord,
  memoryTransport,
  type NewRecord,
  nextFigures,
  noFigures,
  observations,
  optimizer,
  Parameters,
  publishWeights,
  tapMetrics,
  weightsFrom,
} from 'rxgrad';
import { from, lastValueFrom, tap } from 'rxjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../eventually.ts';
import { example, feedsOf } from '../inference/onnx/example-models.ts';
import { batchOf, recordsOf, replay, specs, Training, topicOf } from './training.ts';

const base = { topic: 'weights', model: 'm' } as const;
let records: LogRecord[];

/** A snapshot, and deltas up to version 6. */
beforeAll(async () => {
  const transport = memoryTransport();
  const training = new Training(transport, { ...base, everySteps: 1, conflate: false });
  for (let seed = 0; seed < 6; seed++) training.push(batchOf({ rows: [seed, seed + 9], dense: ['scale'], seed }));
  await training.complete();
  records = await recordsOf(transport, 'weights');
});

/** A record with another value, and its checksum. */
function withValue(record: LogRecord, value: Uint8Array): LogRecord {
  const header = String(record.headers.ce_weights).replace(/crc32=\d+/, `crc32=${crc32(value)}`);
  return { ...record, value, headers: { ...record.headers, ce_weights: header } };
}

/** A safetensors file of these entries, with so many bytes. */
function file(entries: Readonly<Record<string, unknown>>, bytes: number): Uint8Array {
  const json = Buffer.from(JSON.stringify(entries));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.byteLength));
  return Buffer.concat([length, json, Buffer.alloc(bytes)]);
}

const f32 = (shape: number[], begin: number) => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, begin + 4 * shape.reduce((size, dim) => size * dim, 1)],
});
const i32 = (shape: number[], begin: number) => ({ ...f32(shape, begin), dtype: 'I32' });

describe('weightsFrom', () => {
  it('shows no older version when it is subscribed to again', async () => {
    const transport = await topicOf(records.slice(0, 3));
    const into = Parameters.create(specs);
    const shown: number[] = [];
    const weights$ = weightsFrom(transport, { ...base, into, until: 'end' });
    await lastValueFrom(weights$.pipe(tap(({ version }) => shown.push(version))));
    const last = shown.at(-1);
    await transport.produce('weights', records.slice(3));
    await eventually(async () => {
      await lastValueFrom(weights$.pipe(tap(({ version }) => shown.push(version))));
    });
    expect(last).toBeGreaterThan(0);
    expect(shown).toEqual([...new Set(shown)].sort((a, b) => a - b));
    expect(shown.at(-1)).toBe(6);
  });

  it('reports what is no record of weights, and goes on', async () => {
    const foreign: NewRecord[] = [
      { key: 'a', value: Buffer.from('x') },
      { key: 'b', value: Buffer.from('x'), headers: { ce_type: 'rxgrad.gradients.v1' } },
      { key: 'c', value: Buffer.from('x'), headers: { ...records[0]!.headers, ce_weights: 'version=1' } },
      { key: 'd', value: Buffer.from('x'), headers: { ...records[0]!.headers, ce_subject: 'another' } },
      { key: 'e', value: null },
    ];
    const transport = await topicOf([...records.slice(0, 2), ...(foreign as LogRecord[]), ...records.slice(2)]);
    let figures = noFigures;
    const watching = observations().subscribe((observation) => {
      figures = nextFigures(figures, observation);
    });
    const { shown, rejections } = await replay(transport, 'weights');
    watching.unsubscribe();
    expect(shown.map(({ version }) => version)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(rejections.map(({ reason, position }) => [reason, position?.offset])).toEqual(
      [2, 3, 4].map((at) => ['undecodable', at]),
    );
    expect(figures.rejections).toEqual({ undecodable: 3 });
  });

  it('leaves changes out behind a gap, up to the next snapshot', async () => {
    const gap = records.filter((_, i) => i !== 2);
    const { shown, rejections } = await replay(await topicOf(gap), 'weights');
    expect(shown.map(({ version }) => version)).toEqual([1, 2]);
    expect(rejections.map(({ error }) => error.message)).toEqual([
      'weights/0@2: expected changes since publication 2 of shard 0, got those since 3. What follows is left out up to the next snapshot',
    ]);
  });

  it('takes nothing of a damaged record', async () => {
    const value = Uint8Array.from(records[3]!.value!);
    value[value.length - 3]! ^= 64;
    const { shown, rejections } = await replay(await topicOf(records.with(3, { ...records[3]!, value })), 'weights');
    expect(shown.map(({ version }) => version)).toEqual([1, 2, 3]);
    expect(rejections.map(({ reason }) => reason)).toEqual(['corrupted']);
  });

  it.each<[string, Uint8Array]>([
    ['no file', Buffer.from('nonsense')],
    ['a header that is longer than the file', Buffer.from([255, 255, 255, 0, 0, 0, 0, 0, 1])],
    ['a parameter that is not there', file({ other: f32([1], 0) }, 4)],
    ['other dims', file({ scale: f32([1], 0) }, 4)],
    [
      'a row that is not there',
      file({ 'emb.indices': i32([1], 0), 'emb.values': f32([1, 30], 4) }, 124).map((byte, i, all) =>
        i === all.length - 124 ? 40 : byte,
      ),
    ],
    ['a row twice', file({ 'emb.indices': i32([2], 0), 'emb.values': f32([2, 30], 8) }, 248)],
    ['rows of another width', file({ 'emb.indices': i32([1], 0), 'emb.values': f32([1, 29], 4) }, 120)],
    ['bytes', file({ scale: { dtype: 'I8', shape: [], data_offsets: [0, 1] }, 'scale.scale': f32([], 1) }, 5)],
    [
      'a range beyond its end',
      file({ __metadata__: { 'rxgrad.cuts': '{"emb":{"dims":[40,30],"from":1199}}' }, emb: f32([2], 0) }, 8),
    ],
    [
      'a range of dims that are no numbers',
      file({ __metadata__: { 'rxgrad.cuts': '{"emb":{"dims":["a"],"from":0}}' }, emb: f32([2], 0) }, 8),
    ],
  ])('refuses changes that are %s', async (_, value) => {
    const { shown, rejections } = await replay(await topicOf(records.with(3, withValue(records[3]!, value))), 'weights');
    expect(shown.map(({ version }) => version)).toEqual([1, 2, 3]);
    expect(rejections.map(({ reason }) => reason)).toEqual(['undecodable']);
  });

  it('refuses a snapshot that lacks a part of a parameter', async () => {
    const cut = { __metadata__: { 'rxgrad.cuts': '{"emb":{"dims":[40,30],"from":0}}' }, emb: f32([1199], 0) };
    const { shown, rejections } = await replay(await topicOf([withValue(records[0]!, file(cut, 4796))]), 'weights');
    expect(shown).toEqual([]);
    expect(rejections.map(({ error }) => error.message)).toEqual([
      'weights/0@0: expected all 1200 elements of "emb" once in a snapshot, got 1 pieces that are not',
    ]);
  });

  it('throws nothing of whatever bytes come', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), fc.nat(5), async (value, at) => {
        const damaged = fc.sample(fc.constant(value), 1)[0]!;
        const { shown } = await replay(await topicOf(records.with(at, withValue(records[at]!, damaged))), 'weights');
        expect(shown.length).toBeLessThan(records.length);
      }),
      { numRuns: 30 },
    );
  });

  it('fails where names or shapes differ from its own', async () => {
    const { empty: _, ...others } = specs;
    const into = Parameters.create({ ...others, emb: { dims: [30, 40] }, mine: { dims: [1] } });
    await expect(replay(await topicOf(records), 'weights', { into })).rejects.toMatchObject({
      key: 'parametersDiffer',
      message: expect.stringMatching(
        /"emb" is \[40,30\] on the topic, \[30,40\] here; "mine" \[1\] is not on the topic; "empty" \[0,2\] is on the topic alone/,
      ),
    });
  });

  it('holds no more than it may', async () => {
    const transport = await topicOf(records);
    const rejected: string[] = [];
    const shown$ = weightsFrom(transport, {
      ...base,
      until: 'end',
      maxBytes: 1000,
      rejections: { next: ({ error }) => rejected.push(error.message) },
    });
    await expect(lastValueFrom(shown$, { defaultValue: null })).resolves.toBeNull();
    expect(rejected[0]).toBe('weights/0@0: expected weights of at most 1000 bytes, got more');
  });

  it('fails where its parameters are being trained', async () => {
    const into = Parameters.create(specs);
    const training = new Training(memoryTransport(), { ...base, everySteps: 1 }, { params: into });
    // Each time: one that was refused gives nobody else's place away.
    for (let attempt = 0; attempt < 2; attempt++) {
      await expect(replay(await topicOf(records), 'weights', { into })).rejects.toMatchObject({ key: 'parametersInUse' });
    }
    training.crash();
    await expect(replay(await topicOf(records), 'weights', { into })).resolves.toMatchObject({ rejections: [] });
  });

  it('ends at once where a topic holds nothing', async () => {
    expect(await replay(await topicOf([]), 'weights')).toEqual({ shown: [], rejections: [] });
  });

  it.each([
    ['end', 'at once'],
    [undefined, 'at once'],
    [undefined, 'while it begins to read'],
  ] as const)('reads nothing on once it is unsubscribed from, however early (until %s, %s)', async (until, moment) => {
    const transport = await topicOf(records);
    const asked: string[] = [];
    const stopped: string[] = [];
    const watched: typeof transport = {
      ...transport,
      consume: async (options) => {
        asked.push(options.topic);
        subscription.unsubscribe();
        const consumption = await transport.consume(options);
        const stop = (): Promise<void> => {
          stopped.push(options.topic);
          return consumption.stop();
        };
        return { ...consumption, stop };
      },
    };
    const into = Parameters.create(specs);
    const shown: number[] = [];
    const weights$ = weightsFrom(watched, { ...base, into, ...(until ? { until } : {}) });
    const subscription = weights$.subscribe(({ version }) => shown.push(version));
    if (moment === 'at once') subscription.unsubscribe();
    await eventually(() => into.seat.assertFree());
    // Turns in which it would have begun.
    for (let i = 0; i < 50; i++) await new Promise(setImmediate);
    expect(asked).toEqual(moment === 'at once' ? [] : ['weights']);
    await eventually(() => expect(stopped).toEqual(asked));
    expect(shown).toEqual([]);
  });

  it('fails where there is no such topic', async () => {
    await expect(replay(memoryTransport(), 'weights')).rejects.toMatchObject({ key: 'unknownTopic' });
  });

  it('serves a session as the publisher does, over an embedded log', async (context) => {
    const folder = mkdtempSync(join(tmpdir(), 'rxgrad-weights-'));
    context.onTestFinished(() => rmSync(folder, { recursive: true }));
    const log = embeddedLog(join(folder, 'log'));
    context.onTestFinished(() => log.close());
    const { path, gradients, ...inputs } = example('ctr');
    const trained = await HotSwapSession.load(path);
    const served = await HotSwapSession.load(path);
    const batch = gradientBatch({
      gradients: Object.fromEntries(
        Object.entries(gradients).map(([name, { dims, data }]) => [name, { dims, data: Float32Array.from(data) }]),
      ),
    });
    const updates$ = from([batch, batch, batch, batch]).pipe(
      optimizer(trained.params, { type: 'Adam', lr: 0.1 }),
      hotSwap(trained),
      publishWeights(log, { topic: 'weights', model: 'ctr', everySteps: 2, conflate: false }),
    );
    await lastValueFrom(updates$);
    let figures: Figures = noFigures;
    const replica$ = weightsFrom(log, { topic: 'weights', model: 'ctr', into: served.params, until: 'end' }).pipe(
      hotSwap(served),
      tapMetrics((now) => {
        figures = now;
      }),
    );
    const last = await lastValueFrom(replica$);
    expect(last).toMatchObject({ version: 4, step: 4 });
    // The first snapshot has made place for the second.
    expect(figures).toMatchObject({ version: 4, batches: 1, lr: expect.closeTo(0.1) });
    const feeds = feedsOf({ path, gradients, ...inputs });
    const [mine, theirs] = [await trained.predict(feeds), await served.predict(feeds)];
    expect(theirs.version).toBe(4);
    expect(theirs.outputs[trained.outputNames[0]!]!.data).toEqual(mine.outputs[trained.outputNames[0]!]!.data);
    await Promise.all([trained.dispose(), served.dispose()]);
  });
});
