import { describe, expect, inject, it } from 'vitest';
import rebalance from '../../chaos/rebalance.ts';
import { expectNoProblems, shortGround } from './ground.ts';

const brokers = inject('brokers');

describe.skipIf(!brokers)('a group whose members leave, die and join', () => {
  it('brings every partition to the state of one that stayed', async (context) => {
    const outcome = await rebalance(await shortGround(context, brokers), { partitions: [1000, 1000, 1000], seconds: 10 });
    await expectNoProblems(context, outcome);
    expect(outcome.counts['partitions taken over']).toBeGreaterThan(0);
  });
});
