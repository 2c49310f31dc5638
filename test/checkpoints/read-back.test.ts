import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CheckpointStore, FileCheckpoints, KafkaCheckpoints, memoryTransport, Parameters, sgd } from 'rxgrad';
import { from, lastValueFrom } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { assertReadBack } from '../../src/checkpoints/read-back.ts';
import { type GradientBatch, gradientBatch } from '../../src/events.ts';
import { readTensorFileHeader, tensorFileHeader } from '../../src/params/tensor-file.ts';
import { owned } from './owned.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rxgrad-read-back-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

type Damage = (file: Uint8Array) => Uint8Array;

/** Stores that give back something else than was written. */
const stores: Record<string, (damage: Damage) => CheckpointStore> = {
  folder: (damage) =>
    new (class extends FileCheckpoints {
      override async read(version: number): Promise<Uint8Array> {
        return damage(await super.read(version));
      }
    })(join(folder, `${Math.random()}`), { keep: 1 }),
  topic: (damage) =>
    new (class extends KafkaCheckpoints {
      override async read(version: number): Promise<Uint8Array> {
        return damage(await super.read(version));
      }
    })(memoryTransport(), { topic: 'c', keep: 1 }),
};

describe.each(Object.entries(stores))('a checkpoint in a %s', (_, open) => {
  it.each<[string, Damage, string]>([
    ['has another byte', (file) => file.with(70_000, 9), 'another byte at 70000'],
    ['is cut off', (file) => file.subarray(0, 9), 'expected 5000000 bytes, found 9'],
  ])('is not taken for written where what is read back %s: those before it stay', async (_, harm, words) => {
    let damage: Damage = (file) => file;
    const store = await owned(open((file) => damage(file)));
    const file = new Uint8Array(5_000_000);
    await store.write(1, file);
    damage = harm;
    await expect(store.write(2, file)).rejects.toThrow(`reading version 2 back failed: ${words}`);
    expect((await store.list()).map(({ version }) => version)).toEqual([1]);
    damage = (same) => same;
    await store.write(3, file);
    expect((await store.list()).map(({ version }) => version)).toEqual([3]);
  });
});

it('a file is compared in all of its bytes', async () => {
  const file = new Uint8Array(9_000_000);
  const store = (found: Uint8Array) => ({ name: 'store', read: async () => found, remove: async () => {} });
  await assertReadBack(store(file.slice()), 1, file);
  for (const at of [0, 4_194_303, 4_194_304, 8_999_999]) {
    await expect(assertReadBack(store(file.with(at, 1)), 1, file)).rejects.toThrow(`another byte at ${at}`);
  }
});

it('a header that would not be read is not written', () => {
  const fail = (expected: string): never => {
    throw new Error(expected);
  };
  const header = tensorFileHeader({}, [['a', 'x'.repeat(76)]], 104);
  expect(readTensorFileHeader(header, fail).entries).toEqual({ a: 'x'.repeat(76) });
  expect(() => tensorFileHeader({}, [['a', 'x'.repeat(80)]], 104)).toThrow(
    'a header of at most 104 bytes, which is all that would be read, got 112',
  );
});

it('a state of thousands of workers with the worst of ids is small, and can be read', { timeout: 60_000 }, async () => {
  const params = Parameters.create({ w: { dims: [1] } });
  const batches = function* (): Generator<GradientBatch> {
    for (let i = 0; i < 16_000; i++) {
      yield gradientBatch({ gradients: { w: Float32Array.of(1) }, worker: `${i}`.padEnd(1000, '\u0001'), sequence: i });
    }
  };
  await lastValueFrom(from(batches()).pipe(sgd(params, { lr: 0.1 })));
  const state = params.stateDict();
  expect(state.byteLength).toBeLessThan(17_000_000);
  expect(Parameters.fromStateDict(state).version).toBe(16_000);
});
