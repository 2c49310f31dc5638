import { describe, expect, inject, it } from 'vitest';
import operations from '../../chaos/operations.ts';
import { expectNoProblems, shortGround } from './ground.ts';

describe.skipIf(inject('clusterMissing'))('three brokers, and all that rxgrad does on them, under random faults', () => {
  it('lose nothing, double nothing, come to the same bits, and leave nobody behind', async (context) => {
    const outcome = await operations(await shortGround(context), { schedules: 3 });
    await expectNoProblems(context, outcome);
    expect(outcome.counts).toMatchObject({ schedules: 3 });
  });
});
