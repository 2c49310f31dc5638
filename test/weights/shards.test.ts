import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import fc from 'fast-check';
import {
  gradientBatch,
  joinShards,
  memoryTransport,
  momentum,
  Parameters,
  publishWeights,
  shardGradients,
  shardParameters,
  shardPlan,
} from 'rxgrad';
import { from, lastValueFrom } from 'rxjs';
import { expect, it } from 'vitest';
import { batchOf, bitsOf, type History, replay, Training } from './training.ts';

const halves = [
  { 'emb[0:20]': { dims: [20, 30] }, scale: { dims: [] } },
  { 'emb[20:40]': { dims: [20, 30] }, 'dense.w': { dims: [5, 4] } },
];

/** The bits of the whole model, of those of its halves. */
function joined([first, second]: readonly string[]): string {
  const [[, low], [, scale]] = JSON.parse(first!);
  const [[, high], [, dense]] = JSON.parse(second!);
  return JSON.stringify([
    ['emb', [...low, ...high]],
    ['scale', scale],
    ['dense.w', dense],
  ]);
}

it('show versions that all shards have, whole', async () => {
  const steps = fc.array(fc.record({ row: fc.nat(19), shard: fc.nat(1), turns: fc.nat(2) }), { minLength: 20, maxLength: 80 });
  await fc.assert(
    fc.asyncProperty(
      steps,
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 6 }),
      async (order, everySteps, snapshotEvery) => {
        const transport = memoryTransport();
        await transport.createTopic('weights', { partitions: 2 });
        const histories: History[] = [new Map(), new Map()];
        const trainings = halves.map((specs, shard) => {
          const options = { topic: 'weights', model: 'm', shard, shards: 2, everySteps, snapshotEvery };
          return new Training(transport, options, { params: Parameters.create(specs), history: histories[shard]! });
        });
        const steps = [0, 0];
        for (const { row, shard, turns } of order) {
          const seed = steps[shard]!++;
          const table = shard === 0 ? 'emb[0:20]' : 'emb[20:40]';
          trainings[shard]!.push(
            batchOf({ rows: [row], dense: seed % 3 === 0 ? [shard === 0 ? 'scale' : 'dense.w'] : [], seed }, table),
          );
          for (let turn = 0; turn < turns; turn++) await eventLoopTurn();
        }
        for (const training of trainings) await training.complete();
        const { shown, rejections } = await replay(transport, 'weights');
        expect(rejections).toEqual([]);
        for (const { version, bits } of shown) expect(bits).toBe(joined(histories.map((history) => history.get(version)!)));
        const versions = shown.map(({ version }) => version);
        expect(versions).toEqual([...new Set(versions)].toSorted((a, b) => a - b));
        const both = Math.floor(Math.min(...steps) / everySteps) * everySteps;
        expect(versions.at(-1) ?? 0).toBe(both);
      },
    ),
    { numRuns: 40 },
  );
});

it('go on where the model is divided anew', async () => {
  const transport = memoryTransport();
  const whole = { emb: { dims: [40, 30] }, scale: { dims: [] }, 'dense.w': { dims: [5, 4] } };
  const first = new Training(
    transport,
    { topic: 'weights', model: 'm', everySteps: 1, conflate: false },
    { params: Parameters.create(whole) },
  );
  for (let seed = 0; seed < 4; seed++) first.push(batchOf({ rows: [seed], dense: [], seed }));
  await first.complete();
  const { data } = first.params.get('emb');
  const parts = halves.map((specs, shard) => {
    const params = Parameters.create(specs);
    params.load({ [shard === 0 ? 'emb[0:20]' : 'emb[20:40]']: data.slice(600 * shard, 600 * (shard + 1)) }, { version: 4 });
    return params;
  });
  const trainings = parts.map(
    (params, shard) => new Training(transport, { topic: 'weights', model: 'm', shard, shards: 2, everySteps: 1 }, { params }),
  );
  for (let seed = 4; seed < 8; seed++) {
    trainings[0]!.push(batchOf({ rows: [seed], dense: [], seed }, 'emb[0:20]'));
    trainings[1]!.push(batchOf({ rows: [seed], dense: [], seed }, 'emb[20:40]'));
  }
  for (const training of trainings) await training.complete();
  const { shown, rejections } = await replay(transport, 'weights', { into: Parameters.create(whole) });
  expect(rejections).toEqual([]);
  expect(shown[0]!.version).toBe(1);
  expect(shown.at(-1)).toMatchObject({ version: 8, bits: joined(parts.map(bitsOf)) });
});

it('do not fill the memory while one of them is behind', async () => {
  const transport = memoryTransport();
  await transport.createTopic('weights');
  const options = { topic: 'weights', model: 'm', shards: 2, everySteps: 1, snapshotEvery: 5 };
  const trainings = halves.map(
    (specs, shard) => new Training(transport, { ...options, shard }, { params: Parameters.create(specs) }),
  );
  const push = (shard: number, seed: number) =>
    trainings[shard]!.push(batchOf({ rows: [seed % 20], dense: [], seed }, shard === 0 ? 'emb[0:20]' : 'emb[20:40]'));
  for (let seed = 0; seed < 60; seed++) push(0, seed);
  await trainings[0]!.applied();
  const waiting = await replay(transport, 'weights', { maxBytes: 6000 });
  expect(waiting.shown).toEqual([]);
  expect(waiting.rejections).toEqual([]);
  // The first one has nothing left of what the second one catches up with, but for its newest snapshot and what follows.
  for (let seed = 0; seed < 60; seed++) push(1, seed);
  for (const training of trainings) await training.complete();
  const { shown, rejections } = await replay(transport, 'weights', { maxBytes: 6000 });
  expect(rejections).toEqual([]);
  expect(shown.at(-1)).toMatchObject({ version: 60, bits: joined(trainings.map(({ params }) => bitsOf(params))) });
  expect(shown.length).toBeLessThan(15);
});

it('come together to what the whole model is, as a plan has divided it', async () => {
  const transport = memoryTransport();
  const whole = Parameters.create({ emb: { dims: [60, 4] }, bias: { dims: [9] } });
  const plan = shardPlan(whole, { shards: 3 });
  const batches = Array.from({ length: 8 }, (_, i) => {
    const indices = [i, 20 + i, 59 - i];
    return gradientBatch({
      gradients: { bias: new Float32Array(9).fill(i), emb: { indices, values: new Float32Array(12).fill(i + 1) } },
    });
  });
  const parts = plan.shards.map((_, shard) => shardParameters(plan, shard, whole));
  for (const [shard, params] of parts.entries()) {
    const options = { topic: 'weights', model: 'm', shard, shards: 3, everySteps: 4 };
    const own$ = from(batches.map((batch) => shardGradients(batch, plan)[shard]!));
    await lastValueFrom(own$.pipe(momentum(params, { lr: 0.1 }), publishWeights(transport, options)));
  }
  const into = Parameters.create({ emb: { dims: [60, 4] }, bias: { dims: [9] } });
  const { shown } = await replay(transport, 'weights', { into });
  expect(shown.at(-1)?.version).toBe(8);
  expect({ ...into.latest }).toEqual(joinShards(plan, parts));
});
