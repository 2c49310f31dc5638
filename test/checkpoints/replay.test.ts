import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  accumulate,
  adam,
  blame,
  encodeEvent,
  epochBoundary,
  FileCheckpoints,
  fromTransport,
  gradientBatch,
  isRxgradError,
  lookahead,
  memoryTransport,
  type Parameters,
  replay,
  sgd,
  type Transport,
} from 'rxgrad';
import { lastValueFrom, pipe, tap } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { movedTo, seal, unsealedMetadata } from '../../src/checkpoints/checkpoint-file.ts';
import { placeOfOffsets } from '../../src/checkpoints/place-in-log.ts';
import type { ScanOver } from '../../src/checkpoints/replay.ts';
import { writeTensorFile } from '../../src/params/tensor-file.ts';
import { bitsOf, model, recordedLog, rule } from '../sources/one-log.ts';
import { owned } from './owned.ts';

const topic = 'gradients';
let folder = '';
let stores = 0;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rxgrad-replay-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A trained log: its checkpoints at some versions, and its bits at others. */
async function trained(scan: ScanOver, checkpointsAt: readonly number[], bitsAt: readonly number[]) {
  const transport = memoryTransport();
  await transport.createTopic(topic);
  const records = recordedLog().slice(0, 600);
  await transport.produce(
    topic,
    records.map((event) => encodeEvent(event, { source: 'scheduler' })),
  );
  const store = await owned(new FileCheckpoints(join(folder, String(stores++)), { keep: 100 }));
  const params = model();
  const files: [number, Uint8Array][] = [];
  const bits = new Map<number, number[]>();
  const keep = (version: number) => {
    if (checkpointsAt.includes(version)) {
      const file = writeTensorFile(params.planStateDict(unsealedMetadata));
      seal(file);
      files.push([version, file]);
    }
    if (bitsAt.includes(version)) bits.set(version, bitsOf(params));
  };
  const updates$ = fromTransport(transport, { topic, from: 'beginning', until: 'end' }).pipe(
    scan(params),
    tap(({ version }) => keep(version)),
  );
  await lastValueFrom(updates$);
  for (const [version, file] of files) await store.write(version, file);
  return { store, transport, topic, bits };
}

describe('replaying', () => {
  it.each<[string, ScanOver]>([
    ['a config', rule],
    ['another optimizer without stages', (params) => adam(params, { lr: 0.01, amsgrad: true })],
    ['one within another', (params) => lookahead(params, { baseOptimizer: { type: 'Momentum', lr: 0.1, gradClipNorm: 1 } })],
  ])('rebuilds any version from a checkpoint and the log: %s', async (_, scan) => {
    const { bits, ...log } = await trained(scan, [100, 300], [100, 101, 299, 300, 512]);
    for (const [version, expected] of bits) {
      const params = await replay({ ...log, to: { version } });
      expect(params.version).toBe(version);
      expect(bitsOf(params)).toEqual(expected);
    }
  });

  it('rebuilds what was behind a record, and after all records up to a time', async () => {
    const { bits, store, transport } = await trained(rule, [50], [98, 99]);
    // An epoch ends at offset 100, after 100 batches.
    expect(bitsOf(await replay({ store, transport, topic, to: { offset: 97 } }))).toEqual(bits.get(98));
    expect(bitsOf(await replay({ store, transport, topic, to: { offset: 98, partition: 0 } }))).toEqual(bits.get(99));
    const later = await replay({ store, transport, topic, to: { timeMs: Date.now() + 1000 } });
    expect(later.version).toBe(595);
    await expect(replay({ store, transport, topic, to: { timeMs: 1e12 } })).rejects.toThrow('behind version 50, the oldest');
  });

  it('says what it cannot: an older moment, a version that never was, a scan that the checkpoint does not tell', async () => {
    const { bits: _, ...log } = await trained(rule, [100], []);
    await expect(replay({ ...log, to: { version: 99 } })).rejects.toThrow(
      'a moment behind version 100, the oldest that is kept, got version 99',
    );
    await expect(replay({ ...log, to: { version: 5000 } })).rejects.toThrow('up to 595, where the log ends');
    const merging: ScanOver = (params) => pipe(accumulate(2), sgd(params, { lr: 0.1 }));
    const { bits, ...merged } = await trained(merging, [100], [150]);
    expect(bitsOf(await replay({ ...merged, to: { version: 150 } }))).toEqual(bits.get(150));
    const byFunction: ScanOver = (params) => sgd(params, { lr: (epoch) => 0.1 / (epoch + 1) });
    const { bits: __, ...opaque } = await trained(byFunction, [100], []);
    await expect(replay({ ...opaque, to: { version: 150 } })).rejects.toThrow('a schedule or function that begins at 0.1');
  });

  it('refuses an offset that the log does not hold yet', async () => {
    const { bits: _, ...log } = await trained(rule, [100], []);
    await expect(replay({ ...log, to: { offset: 1_000_000 } })).rejects.toThrow(
      /to: expected an offset below \d+, where the log ends, got 1000000/,
    );
    const [end] = await log.transport.endOffsets(topic);
    await expect(replay({ ...log, to: { offset: end! } })).rejects.toThrow(
      `an offset below ${end}, where the log ends, got ${end}`,
    );
    expect((await replay({ ...log, to: { offset: end! - 1 } })).version).toBe(595);
    await expect(replay({ ...log, to: { offset: 0, partition: 7 } })).rejects.toThrow('an offset below 0');
  });

  it('begins at the newest checkpoint before a record, and steps no farther than that', async () => {
    const { bits, ...log } = await trained(rule, [50, 60, 70], [60, 61]);
    const steps = async (offset: number) => {
      const versions: number[] = [];
      const params = await replay({ ...log, to: { offset }, onUpdate: ({ version }) => void versions.push(version) });
      return [params.version, ...versions];
    };
    expect(await steps(59)).toEqual([60]);
    expect(await steps(60)).toEqual([61, 61]);
    expect(await steps(58)).toEqual([59, 51, 52, 53, 54, 55, 56, 57, 58, 59]);
    const versions: number[] = [];
    expect(bitsOf(await replay({ ...log, to: { version: 61 }, onUpdate: ({ version }) => void versions.push(version) }))).toEqual(
      bits.get(61),
    );
    expect(versions).toEqual([61]);
    versions.length = 0;
    expect(bitsOf(await replay({ ...log, to: { version: 60 }, onUpdate: ({ version }) => void versions.push(version) }))).toEqual(
      bits.get(60),
    );
    expect(versions).toEqual([]);
  });

  it('looks at offsets of the topic that is replayed, where a state goes on from another one', async () => {
    const { bits: _, store, ...log } = await trained(rule, [50, 60], []);
    const other = 'gradients-2';
    await log.transport.createTopic(other);
    const records = recordedLog().slice(0, 90);
    await log.transport.produce(
      other,
      records.map((event) => encodeEvent(event, { source: 'scheduler' })),
    );
    for (const [version, next] of [
      [50, 70],
      [60, 80],
    ] as const) {
      const place = await placeOfOffsets(log.transport, other, new Map([[0, next]]));
      await store.write(version, movedTo(await store.read(version), place, ''));
    }
    const from = async (offset: number) => {
      const offsets: number[] = [];
      await replay({
        ...log,
        store,
        topic: other,
        to: { offset },
        onUpdate: ({ position }) => void offsets.push(position!.offset),
      });
      return offsets;
    };
    expect(await from(72)).toEqual([70, 71, 72]);
    expect(await from(81)).toEqual([80, 81]);
  });

  it('refuses to guess the stages where no batch has come through them yet', async () => {
    const { bits: _, store, ...log } = await trained(rule, [100], []);
    const params = model();
    const epochs = memoryTransport();
    await epochs.createTopic(topic);
    await epochs.produce(topic, [encodeEvent(epochBoundary(0))]);
    await lastValueFrom(fromTransport(epochs, { topic, from: 'beginning', until: 'end' }).pipe(rule(params)), {
      defaultValue: null,
    });
    for (const { version } of await store.list()) await store.remove(version);
    const file = writeTensorFile(params.planStateDict(unsealedMetadata));
    seal(file);
    await store.write(0, file);
    await expect(replay({ ...log, transport: epochs, store, to: { offset: 0 } })).rejects.toThrow('give the scan yourself');
  });

  it('refuses another scan than the one that is replayed', async () => {
    const { bits: _, ...log } = await trained(rule, [100], []);
    const failed = replay({ ...log, to: { version: 150 }, scan: (params) => sgd(params, { lr: 0.1 }) });
    await expect(failed).rejects.toSatisfy((error) => isRxgradError(error) && error.key === 'parametersDiffer');
  });
});

describe('blaming', () => {
  const bias = (params: Parameters) => Math.abs(params.get('dense.bias').data[0]!);

  /** 400 small gradients, and one that is not at an offset. */
  async function spoilt(at: number, checkpointsAt: readonly number[]) {
    const transport: Transport = memoryTransport();
    await transport.createTopic(topic);
    const gradient = (i: number) => new Float32Array(13).fill(i === at ? -1000 : 0.01 * Math.sin(i));
    const records = Array.from({ length: 400 }, (_, i) =>
      encodeEvent(gradientBatch({ gradients: { 'dense.bias': gradient(i) } })),
    );
    await transport.produce(topic, records);
    const store = await owned(new FileCheckpoints(join(folder, String(stores++)), { keep: 100 }));
    const params = model();
    const files: [number, Uint8Array][] = [];
    await lastValueFrom(
      fromTransport(transport, { topic, from: 'beginning', until: 'end' }).pipe(
        sgd(params, { lr: 0.1 }),
        tap(({ version }) => {
          if (!checkpointsAt.includes(version)) return;
          const file = writeTensorFile(params.planStateDict(unsealedMetadata));
          seal(file);
          files.push([version, file]);
        }),
      ),
    );
    for (const [version, file] of files) await store.write(version, file);
    return { store, transport, topic };
  }

  it.each([
    [57, [1, 400]],
    [57, [1, 50, 60, 100, 200, 400]],
    [1, [1, 400]],
    [399, [1, 200, 400]],
  ])('names the record at %i, whatever checkpoints there are', async (at, checkpoints) => {
    const log = await spoilt(at, checkpoints);
    const measured: number[] = [];
    const found = await blame({ ...log, measure: bias, onMeasured: (version) => measured.push(version) });
    expect(found).toMatchObject({ version: at + 1, position: { topic, partition: 0, offset: at } });
    expect(found.before).toBeLessThan(1);
    expect(found.after).toBeGreaterThan(90);
    expect(measured.length).toBeLessThan(15);
  });

  it('measures both ends, then checkpoints by halves, then versions between two of them', async () => {
    const log = await spoilt(57, [1, 50, 60, 100, 200, 400]);
    const measured: number[] = [];
    let steps = 0;
    const measure = (params: Parameters) => {
      steps += 1;
      return bias(params);
    };
    await blame({ ...log, measure, onMeasured: (version) => measured.push(version) });
    expect(measured).toEqual([1, 400, 100, 60, 50, 55, 57, 58]);
    expect(steps).toBe(measured.length);
  });

  it('begins and ends where it is told to', async () => {
    const log = await spoilt(57, [1, 20, 400]);
    const measured: number[] = [];
    const found = await blame({ ...log, measure: bias, good: 56, bad: 60, onMeasured: (version) => measured.push(version) });
    expect(found.version).toBe(58);
    expect(measured).toEqual([56, 60, 58, 57]);
    // The version before is good, and nothing is left to be measured.
    measured.length = 0;
    await blame({ ...log, measure: bias, good: 57, bad: 58, onMeasured: (version) => measured.push(version) });
    expect(measured).toEqual([57, 58]);
  });

  it('passes over a checkpoint between that is not whole', async () => {
    const log = await spoilt(57, [1, 100, 200, 300, 400]);
    for (const version of [100, 200, 300]) await log.store.write(version, new Uint8Array(9));
    expect((await blame({ ...log, measure: bias })).version).toBe(58);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('finds where a metric became %d', async (bad) => {
    const log = await spoilt(57, [1, 400]);
    const measure = (params: Parameters) => (bias(params) > 50 ? bad : params.version % 7);
    expect(await blame({ ...log, measure })).toMatchObject({ version: 58, position: { offset: 57 }, after: bad });
  });

  it('takes what is as near to the good value as to the bad one for good', async () => {
    const log = await spoilt(57, [1, 9]);
    expect((await blame({ ...log, measure: ({ version }) => version })).version).toBe(6);
  });

  it('takes a limit, and says where there is nothing to be blamed', async () => {
    const log = await spoilt(57, [1, 400]);
    const found = await blame({ ...log, measure: bias, isBad: (value) => value > 50 });
    expect(found.version).toBe(58);
    await expect(blame({ ...log, measure: bias, isBad: (value) => value > 1e6 })).rejects.toThrow('a bad one at version 400');
    await expect(blame({ ...log, measure: bias, isBad: () => true })).rejects.toThrow('a good value at version 1');
    for (const good of [400, 401]) {
      await expect(blame({ ...log, measure: bias, good, bad: 400 })).rejects.toThrow(`bad one later, got ${good} and 400`);
    }
    await expect(blame({ ...log, measure: bias, good: 0 })).rejects.toThrow('a checkpoint before that version, got 0');
    for (const { version } of await log.store.list()) await log.store.remove(version);
    await expect(blame({ ...log, measure: bias })).rejects.toThrow('two versions, the bad one later, got none');
  });
});
