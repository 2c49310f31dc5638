import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  accumulate,
  checkpoint,
  encodeEvent,
  FileCheckpoints,
  fromTransport,
  isRxgradError,
  memoryTransport,
  type Parameters,
  type Recovered,
  recover,
  sgd,
  type Transport,
} from 'rxgrad';
import { concatMap, lastValueFrom, type OperatorFunction, pipe, take } from 'rxjs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { newestWhole } from '../../src/checkpoints/opened-checkpoint.ts';
import { Sealer } from '../../src/checkpoints/sealer.ts';
import type { TrainingEvent, WeightsUpdate } from '../../src/index.ts';
import { eventually } from '../eventually.ts';
import { bitsOf, model, recordedLog, rule } from '../sources/one-log.ts';

type Scan = (params: Parameters) => OperatorFunction<TrainingEvent, WeightsUpdate>;
const topic = 'gradients';
let folder = '';
let transport: Transport;
let store: FileCheckpoints;
let whole: number[];
let stores = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rxgrad-recover-'));
  transport = memoryTransport();
  await transport.createTopic(topic);
  await transport.produce(
    topic,
    recordedLog().map((event) => encodeEvent(event, { source: 'scheduler' })),
  );
  whole = await uninterrupted(rule);
});
afterAll(() => rm(folder, { recursive: true, force: true }));
// A run begins every checkpoint with one of its own, and closes it behind the last one.
const seal = vi.spyOn(Sealer.prototype, 'seal');
const close = vi.spyOn(Sealer.prototype, 'close');
beforeEach(() => {
  store = new FileCheckpoints(join(folder, String(stores++)));
});
afterEach(() => {
  seal.mockClear();
  close.mockClear();
});

async function uninterrupted(scan: Scan): Promise<number[]> {
  const params = model();
  await lastValueFrom(fromTransport(transport, { topic, from: 'beginning', until: 'end' }).pipe(scan(params)));
  return bitsOf(params);
}

/** Goes on from the newest checkpoint, until so many steps were taken, or to the end of the log. */
async function run(scan: Scan, steps = Number.POSITIVE_INFINITY, options = { everySteps: 100, atEnd: false }) {
  const params = model();
  const recovered: Recovered = await recover(params, store, { transport, topic });
  // What made the first checkpoint has been closed already.
  close.mockClear();
  const updates$ = fromTransport(transport, { topic, until: 'end', ...recovered.source }).pipe(
    breathing(recovered),
    scan(params),
    checkpoint(store, options),
    steps === Number.POSITIVE_INFINITY ? pipe() : take(steps),
  );
  await lastValueFrom(updates$, { defaultValue: null });
  await written();
  return { params, recovered };
}

/** Leaves room for what happens beside the stream: a log in memory comes in one piece otherwise. */
function breathing(recovered: Recovered) {
  let events = 0;
  const before = recovered.version;
  const begun = seal.mock.calls.length;
  // Recovering had one, too.
  close.mockClear();
  return concatMap(async (event: TrainingEvent) => {
    events += 1;
    // The thread that writes takes its time to start; where no checkpoint is due, there is nothing to wait for.
    if (events === 120 && seal.mock.calls.length > begun) {
      await eventually(async () => expect((await store.list())[0]!.version).toBeGreaterThan(before));
    } else if (events % 50 === 0) await delay(4);
    return event;
  });
}

/** Waits for a checkpoint that may be under way where a run has ended. */
async function written(): Promise<void> {
  await eventually(() => expect(close).toHaveBeenCalled());
  await close.mock.results[0]!.value;
  close.mockClear();
}

describe('recovering', () => {
  it('begins a store with the weights as they are, and the log at its beginning', async () => {
    const { recovered } = await run(rule, 1);
    expect(recovered).toMatchObject({ version: 0, source: { from: new Map([[0, 0]]) } });
    expect((await store.list()).map(({ version }) => version)).toEqual([0]);
    expect((await run(rule, 1)).recovered.version).toBe(0);
  });

  it('leads to the bits of an uninterrupted run, whenever a run ends', async () => {
    for (const steps of [50, 130, 777, 3, 412]) await run(rule, steps);
    const { params, recovered } = await run(rule);
    expect(recovered.version).toBeGreaterThanOrEqual(100);
    expect(params.version).toBe(2000);
    expect(bitsOf(params)).toEqual(whole);
  });

  it('does so where batches are merged, and a record comes again behind the checkpoint', async () => {
    const log = recordedLog().map((event) => encodeEvent(event, { source: 'scheduler' }));
    const repeating = memoryTransport();
    await repeating.createTopic(topic);
    await repeating.produce(topic, [...log.slice(0, 500), ...log.slice(480, 600)]);
    const merged: Scan = (params) => pipe(accumulate(7), sgd(params, { lr: 0.1 }));
    const once = model();
    await lastValueFrom(fromTransport(repeating, { topic, from: 'beginning', until: 'end' }).pipe(merged(once)));
    const twice = model();
    for (const steps of [69, 1000]) {
      const recovered = await recover(twice, store, { transport: repeating, topic });
      const updates$ = fromTransport(repeating, { topic, until: 'end', ...recovered.source }).pipe(
        breathing(recovered),
        merged(twice),
        checkpoint(store, { everySteps: 1 }),
        take(steps),
      );
      await lastValueFrom(updates$);
      await written();
    }
    expect(bitsOf(twice)).toEqual(bitsOf(once));
  });

  it('takes a checkpoint at the end of the stream', async () => {
    await run(rule, Number.POSITIVE_INFINITY, { everySteps: 1e6, atEnd: true });
    const [newest] = await store.list();
    expect(newest!.version).toBe(2000);
    const { recovered, params } = await run(rule);
    expect(recovered.version).toBe(2000);
    expect(bitsOf(params)).toEqual(whole);
  });

  it.each<[string, (file: Buffer) => Buffer]>([
    ['is cut off', (file) => file.subarray(0, file.byteLength - 700)],
    ['is empty', (file) => file.subarray(0, 0)],
    ['has another byte in its tensors', (file) => flipped(file, file.byteLength - 5)],
    ['has another byte in its header', (file) => flipped(file, 300)],
    ['has another byte in its checksum', (file) => flipped(file, file.indexOf('rxgrad.checksum') + 25)],
    ['begins with another length', (file) => flipped(file, 0)],
  ])('passes over a checkpoint that %s, and says so', async (_, damage) => {
    await run(rule, 350);
    const [newest, before] = await store.list();
    const path = join(folder, String(stores - 1), `${String(newest!.version).padStart(16, '0')}.safetensors`);
    await writeFile(path, damage(await readFile(path)));
    const warnings: string[] = [];
    const listen = (warning: Error) => warnings.push(warning.message);
    process.on('warning', listen);
    const { params, recovered } = await run(rule);
    process.off('warning', listen);
    expect(recovered.version).toBe(before!.version);
    expect(warnings.join()).toContain(`version ${newest!.version}: expected`);
    expect(bitsOf(params)).toEqual(whole);
  });

  it('looks again where a checkpoint was removed between the list and the reading', async () => {
    const [params, other] = [model(), new FileCheckpoints(join(folder, String(stores++)))];
    await recover(params, other, { transport, topic });
    const removed = {
      name: other.name,
      list: async () => (lists++ === 0 ? [{ version: 9, bytes: 1, savedAtMs: 0, pinned: false }] : other.list()),
      read: (version: number) => other.read(version),
    };
    let lists = 0;
    expect((await newestWhole(removed as unknown as FileCheckpoints))!.facts.version).toBe(params.version);
  });

  it('begins nothing anew where no checkpoint is whole', async () => {
    await run(rule, 10, { everySteps: 1e9, atEnd: false });
    for (const { version } of await store.list()) await store.write(version, new Uint8Array(9));
    await expect(run(rule)).rejects.toSatisfy((error) => isRxgradError(error) && error.key === 'noValidCheckpoint');
  });

  it('stops where the log does not reach back to the checkpoint', async () => {
    await run(rule, 350);
    const cut: Transport = { ...transport, startOffsets: async () => [1500] };
    await expect(recover(model(), store, { transport: cut, topic })).rejects.toThrow(
      /gradients\/0: expected the log to hold offset \d+, where version \d+ goes on, but it has 1500 to 2020/,
    );
    const shorter: Transport = { ...transport, endOffsets: async () => [50] };
    await expect(recover(model(), store, { transport: shorter, topic })).rejects.toThrow(/but it has 0 to 50/);
    await transport.createTopic('others');
    await expect(recover(model(), store, { transport, topic: 'others' })).rejects.toThrow(/expected that of .*"gradients"/);
  });

  it('stops where the configuration changed, unless that is allowed', async () => {
    await run(rule, 350);
    await expect(run((params) => sgd(params, { lr: 0.1 }))).rejects.toThrow('the state is of Momentum, the scan of SGD');
    await expect(run((params) => pipe(accumulate(2), rule(params)))).rejects.toThrow(
      'and are accumulate({"applyAtEnd":false,"size":2}) → clip',
    );
    const params = model();
    const { source } = await recover(params, store, { transport, topic, allowChanges: true });
    expect(source.from.get(0)).toBeGreaterThan(0);
  });
});

function flipped(file: Buffer, at: number): Buffer {
  const changed = Buffer.from(file);
  changed[at]! ^= 1;
  return changed;
}
