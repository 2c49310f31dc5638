import { memoryTransport, type NewRecord, Parameters, publishWeights } from 'rxgrad';
import { Subject } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { WeightsUpdate } from '../../src/optimizers/weights-update.ts';
import { readPublished } from '../../src/weights/published.ts';
import type { WeightsFacts } from '../../src/weights/weights-header.ts';
import { keyOf, requestRecord, weightsRecord } from '../../src/weights/weights-record.ts';
import { eventually } from '../eventually.ts';
import { snapshotFacts } from './snapshot-facts.ts';
import { kindOf, recordsOf, versionOf } from './training.ts';

const place = { topic: 'w', partition: 0 };
const value = Buffer.from('x');

function record(sequence: number, own: Partial<WeightsFacts> & { key?: string; model?: string } = {}): NewRecord {
  const { key = keyOf('m', 0, null, 0), model = 'm', ...more } = own;
  const facts = snapshotFacts({ version: 10 * sequence, course: 'a', sequence, ...more });
  return weightsRecord({ ...place, key }, model, facts, value);
}

/** What is read of a topic with these records, and again after each of more. */
async function read(records: readonly NewRecord[], ...more: NewRecord[][]) {
  const transport = memoryTransport();
  await transport.createTopic('w');
  await transport.produce('w', records);
  let published = await readPublished(transport, 'w', 'm', 0, 0);
  for (const each of more) {
    await transport.produce('w', each);
    published = await readPublished(transport, 'w', 'm', 0, 0, published);
  }
  const { keys, ...rest } = published;
  return { ...rest, keys: [...keys] };
}

describe('what a topic holds of a shard', () => {
  it('is nothing where there is none of it', async () => {
    expect(await read([])).toEqual({ sequence: 0, version: -1, course: undefined, next: 0, keys: [] });
    const others = [
      record(1, { key: keyOf('other', 0, null, 0), model: 'other' }),
      record(2, { key: keyOf('m', 1, null, 0), shard: 0 }),
      requestRecord('m', 'replica', 1),
      { key: 'm/0/other', value },
      { value },
    ];
    expect(await read(others)).toEqual({ sequence: 0, version: -1, course: undefined, next: 5, keys: [] });
  });

  it('is the largest numbers, the last course, and the keys that are left', async () => {
    const second = keyOf('m', 0, null, 1);
    expect(await read([record(5), record(3, { key: second, course: 'b' })])).toEqual({
      sequence: 5,
      version: 50,
      course: 'b',
      next: 2,
      keys: ['m/0/snapshot/0', 'm/0/snapshot/1'],
    });
    expect(await read([record(5), { key: keyOf('m', 0, null, 0), value: null }])).toMatchObject({
      sequence: 5,
      version: 50,
      keys: [],
    });
    expect(await read([record(5, { course: undefined })])).toMatchObject({ course: undefined });
  });

  it('has the keys of records that cannot be read, and not what they might say', async () => {
    const damaged = { ...record(7), headers: { ...record(7).headers, ce_weights: 'version=70' } };
    expect(await read([record(5), damaged])).toMatchObject({ sequence: 5, version: 50, course: 'a', keys: ['m/0/snapshot/0'] });
    const { ce_weights: _, ...none } = record(7).headers!;
    expect(await read([{ ...record(7), headers: none }])).toMatchObject({ sequence: 0, keys: ['m/0/snapshot/0'] });
    const foreign = { ...record(7), headers: { ...record(7).headers, ce_subject: 'other' } };
    expect(await read([foreign])).toMatchObject({ sequence: 0, keys: [] });
  });

  it('is read on from where it was read before', async () => {
    const [delta, snapshot] = [keyOf('m', 0, 1, 0), keyOf('m', 0, null, 0)];
    const all = [record(1), record(2, { key: delta, kind: 'delta', base: 1 }), { key: delta, value: null }, record(3)];
    const expected = { sequence: 3, version: 30, course: 'a', next: 4, keys: [snapshot] };
    expect(await read(all)).toEqual(expected);
    expect(await read(all.slice(0, 2), [], all.slice(2, 3), all.slice(3))).toEqual(expected);
  });
});

describe('a publisher', () => {
  const base = { topic: 'weights', model: 'm' } as const;

  /** Publishes versions of two weights. */
  function publishing(transport = memoryTransport(), options: object = { everySteps: 1 }) {
    const params = Parameters.create({ w: { dims: [2] }, table: { dims: [40, 8] } });
    params.course = 'a course';
    const updates$ = new Subject<WeightsUpdate>();
    const ended: unknown[] = [];
    updates$.pipe(publishWeights(transport, { ...base, ...options } as never)).subscribe({
      error: (error: Error) => ended.push(error),
      complete: () => ended.push('completed'),
    });
    const step = (version: number, values: object = { w: [version, version] }) => {
      params.load(values as Record<string, number[]>, { version });
      updates$.next(updateOf(params));
    };
    return {
      transport,
      params,
      updates$,
      step,
      ended,
      records: async () => (await recordsOf(transport, 'weights')).filter(({ value }) => value),
    };
  }

  const updateOf = (params: Parameters): WeightsUpdate =>
    new WeightsUpdate(params, null, {
      version: params.version,
      step: 3,
      epoch: 2,
      lr: 0.5,
      gradientNorm: 7,
      clipped: true,
      staleness: 1,
      position: null,
      durationMs: 0,
    });

  it('answers requests for its own model alone, and no other records', async () => {
    const transport = memoryTransport();
    await transport.createTopic('requests');
    const { step, records, updates$, ended } = publishing(transport, { everySteps: 1, requests: 'requests' });
    step(1);
    await eventually(async () => expect(await records()).toHaveLength(1));
    await transport.produce('requests', [requestRecord('other', 'r', 1), record(1), { value }]);
    step(2);
    await eventually(async () => expect(await records()).toHaveLength(2));
    await transport.produce('requests', [{ value }, requestRecord('m', 'r', 1)]);
    await eventually(async () => expect(await records()).toHaveLength(3));
    step(3);
    await eventually(async () => expect(await records()).toHaveLength(4));
    updates$.complete();
    await eventually(() => expect(ended).toEqual(['completed']));
    expect((await records()).map((one) => [kindOf(one), versionOf(one)])).toEqual([
      ['snapshot', 1],
      ['delta', 2],
      ['snapshot', 2],
      ['delta', 3],
    ]);
  });

  it('goes on with the next number where another one has published, and not with a version that is there', async () => {
    const first = publishing();
    first.step(5);
    first.updates$.complete();
    await eventually(() => expect(first.ended).toEqual(['completed']));
    const second = publishing(first.transport);
    for (const version of [4, 5, 6]) {
      second.step(version);
      await eventually(() => expect(second.params.seat.settled).toBe(true));
    }
    second.updates$.complete();
    await eventually(() => expect(second.ended).toEqual(['completed']));
    const all = await second.records();
    expect(all.map(versionOf).slice(-1)).toEqual([6]);
    expect(all.map(({ headers }) => /sequence=(\d+)/.exec(String(headers.ce_weights))![1])).toEqual(['1', '2']);
    expect(all.map(kindOf)).toEqual(['snapshot', 'snapshot']);
  });

  it('says what is known of the step, in the first part of each publication alone', async () => {
    const { step, records, updates$, ended } = publishing(memoryTransport(), { everySteps: 1, maxPartBytes: 4096 });
    step(1, { table: Array.from({ length: 320 }, (_, i) => i), w: [1, 2] });
    updates$.complete();
    await eventually(() => expect(ended).toEqual(['completed']));
    const texts = (await records()).map(({ value }) => Buffer.from(value!).toString('latin1'));
    const { madeAtMs: _, ...said } = JSON.parse(JSON.parse(/"rxgrad.step":("(?:[^"\\]|\\.)*")/.exec(texts[0]!)![1]!));
    expect(said).toEqual({ step: 3, epoch: 2, lr: 0.5, gradientNorm: 7, clipped: true, staleness: 1 });
    expect(texts.slice(1).filter((text) => text.includes('rxgrad.step'))).toEqual([]);
  });

  it('publishes a snapshot of other parameters, whose changes it does not know', async () => {
    const { step, transport, records, updates$, ended } = publishing();
    step(1);
    await eventually(async () => expect(await records()).toHaveLength(1));
    step(2);
    await eventually(async () => expect(await records()).toHaveLength(2));
    const other = Parameters.create({ w: { dims: [2] }, table: { dims: [40, 8] } });
    other.course = 'a course';
    other.load({ w: [9, 9] }, { version: 3 });
    updates$.next(updateOf(other));
    updates$.complete();
    await eventually(() => expect(ended).toEqual(['completed']));
    expect((await recordsOf(transport, 'weights')).filter(({ value }) => value).map(kindOf)).toEqual([
      'snapshot',
      'delta',
      'snapshot',
    ]);
  });
});
