import { describe, expect, inject, it } from 'vitest';
import acknowledged from '../../chaos/acknowledged.ts';
import { expectNoProblems, shortGround } from './ground.ts';

describe.skipIf(inject('clusterMissing'))('a producer of six partitions whose brokers go one after the other', () => {
  it('is told of each record where it is, and there once', async (context) => {
    const outcome = await acknowledged(await shortGround(context), { faults: 3, hangMs: 12_000 });
    await expectNoProblems(context, outcome);
    expect(outcome.counts).toMatchObject({ 'shut down': 1, killed: 1, hung: 1, rejected: 0 });
  });
});
