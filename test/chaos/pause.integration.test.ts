import { describe, expect, inject, it } from 'vitest';
import pause from '../../chaos/pause.ts';
import { expectNoProblems, shortGround } from './ground.ts';

const brokers = inject('brokers');

describe.skipIf(!brokers)('a member that is stopped for longer than its session', () => {
  it('goes on, alone or behind another one, and nothing is applied twice', async (context) => {
    const outcome = await pause(await shortGround(context, brokers), { batches: 2000, times: 1 });
    await expectNoProblems(context, outcome);
    expect(outcome.counts).toEqual({ pauses: 2, 'partitions taken over meanwhile': 2 });
  });
});
