import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import fc from 'fast-check';
import { memoryTransport, Parameters, type PublishWeightsOptions } from 'rxgrad';
import { expect, it } from 'vitest';
import {
  type Batch,
  batchOf,
  compacted,
  type History,
  recordsOf,
  replay,
  rows,
  specs,
  Training,
  topicOf,
  versionOf,
} from './training.ts';

const dense = Object.keys(specs).filter((name) => !['emb', 'wide', 'empty'].includes(name));
const batches = fc.array(
  fc.record({
    rows: fc.uniqueArray(fc.nat(rows - 1), { maxLength: 6 }),
    wide: fc.option(fc.nat(7)),
    dense: fc.subarray(dense),
    seed: fc.nat(1000),
    turns: fc.nat(3),
    restart: fc.nat(10),
  }),
  { minLength: 1, maxLength: 60 },
);
const publishing = fc.record({
  everySteps: fc.integer({ min: 1, max: 5 }),
  conflate: fc.boolean(),
  snapshotEvery: fc.integer({ min: 1, max: 8 }),
  maxPartBytes: fc.constantFrom(4096, 100_000),
});
const damage = fc.record({
  drop: fc.array(fc.nat(400)),
  corrupt: fc.array(fc.nat(400)),
  repeat: fc.array(fc.nat(400)),
  compact: fc.double({ min: 0, max: 1, noNaN: true }),
});

type Step = Batch & { readonly turns: number; readonly restart: number };
type Options = Pick<PublishWeightsOptions, 'everySteps' | 'conflate' | 'snapshotEvery' | 'maxPartBytes'>;

/** Trains and publishes, going back to an earlier state now and then; returns the log, and the bits of each version. */
async function published(steps: readonly Step[], options: Options, average: boolean) {
  const memory = memoryTransport();
  // Keeps all records: compaction comes later.
  const transport = { ...memory, createTopic: (topic: string) => memory.createTopic(topic) };
  const history: History = new Map();
  const publishWeightsOptions = { topic: 'weights', model: 'm', ...options };
  let training = new Training(transport, publishWeightsOptions, { history, average });
  let kept: { readonly at: number; readonly state: Uint8Array } | null = null;
  let restarts = 0;
  for (let at = 0; at < steps.length; at++) {
    const { turns, restart, ...batch } = steps[at]!;
    const touched = batch.rows.length + batch.dense.length + (batch.wide === null ? 0 : 1);
    training.push(batchOf(touched > 0 ? batch : { ...batch, dense: ['scale'] }));
    for (let turn = 0; turn < turns; turn++) await eventLoopTurn();
    if (restart === 1) {
      await training.applied();
      kept = { at, state: training.params.stateDict() };
    }
    if (restart === 2 && kept && restarts < 3) {
      await training.applied();
      training.crash();
      restarts += 1;
      const params = Parameters.create(specs);
      params.loadStateDict(kept.state);
      training = new Training(transport, publishWeightsOptions, { params, history, average });
      at = kept.at;
    }
  }
  await training.complete();
  expect(training.error).toBeNull();
  return { transport, history, restarts, last: training.params.version };
}

function expectWhole(shown: readonly { readonly version: number; readonly bits: string }[], history: History): void {
  for (const { version, bits } of shown) expect(bits, `version ${version}`).toBe(history.get(version));
  expect(shown.map(({ version }) => version)).toEqual(
    [...new Set(shown.map(({ version }) => version))].toSorted((a, b) => a - b),
  );
}

it('shows replicas the bits of the versions that were published, whatever the stream and the restarts', async () => {
  await fc.assert(
    fc.asyncProperty(batches, publishing, async (steps, options: Options & { everySteps: number }) => {
      const { transport, history, restarts, last } = await published(steps, options, false);
      const { shown, rejections } = await replay(transport, 'weights');
      expectWhole(shown, history);
      expect(rejections).toEqual([]);
      const versions = [...new Set((await recordsOf(transport, 'weights')).map(versionOf).filter((version) => version > 0))];
      expect(shown.map(({ version }) => version)).toEqual(versions);
      const due = Array.from({ length: Math.floor(last / options.everySteps) }, (_, i) => (i + 1) * options.everySteps);
      // A state that was kept while its version was on its way: it goes on with the next one.
      if (!options.conflate) expect(restarts > 0 ? due : versions).toEqual(restarts > 0 ? expect.arrayContaining(versions) : due);
      else if (due.length > 0 && restarts === 0) expect(versions.at(-1)).toBeGreaterThanOrEqual(due.at(-1)!);
    }),
    { numRuns: 60 },
  );
});

it('shows new replicas the last version, wherever compaction has got to', async () => {
  await fc.assert(
    fc.asyncProperty(batches, publishing, damage, async (steps, options, { compact }) => {
      const { transport, history } = await published(steps, options, false);
      const records = await recordsOf(transport, 'weights');
      fc.pre(records.length > 0);
      const left = compacted(records, Math.round(compact * records.length));
      const into = Parameters.create(specs);
      // With a reader, versions take turns on both sides.
      into.reader();
      const { shown, rejections } = await replay(await topicOf(left), 'weights', { into });
      expectWhole(shown, history);
      expect(rejections).toEqual([]);
      expect(shown.at(-1)?.version).toBe(Math.max(...records.map(versionOf).filter((version) => version > 0)));
    }),
    { numRuns: 60 },
  );
});

it('shows nothing that is torn where records are lost, damaged or repeated', async () => {
  await fc.assert(
    fc.asyncProperty(batches, publishing, damage, async (steps, options, { drop, corrupt, repeat }) => {
      const { transport, history } = await published(steps, options, false);
      const records = await recordsOf(transport, 'weights');
      fc.pre(records.length > 0);
      const damaged = records.flatMap((record) => {
        if (drop.includes(record.offset)) return [];
        const value = corrupt.includes(record.offset) && record.value ? flipped(record.value) : record.value;
        return repeat.includes(record.offset)
          ? [
              { ...record, value },
              { ...record, value },
            ]
          : [{ ...record, value }];
      });
      const { shown, rejections } = await replay(await topicOf(damaged), 'weights');
      expectWhole(shown, history);
      expect(rejections.every(({ reason }) => reason === 'corrupted' || reason === 'weightsGap')).toBe(true);
    }),
    { numRuns: 60 },
  );
});

it('publishes the average where there is one', async () => {
  const steps = Array.from({ length: 30 }, (_, seed) => ({
    rows: [seed, (7 * seed) % rows],
    dense: [],
    seed,
    turns: 1,
    restart: 20,
  }));
  const options = { everySteps: 1, conflate: false, snapshotEvery: 100, maxPartBytes: 100_000 };
  const { transport, history } = await published(steps, options, true);
  const { shown } = await replay(transport, 'weights');
  expectWhole(shown, history);
  expect(shown).toHaveLength(30);
});

function flipped(value: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(value);
  copy[copy.length - 1]! ^= 1;
  return copy;
}
