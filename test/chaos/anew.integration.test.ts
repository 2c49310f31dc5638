import { describe, expect, inject, it } from 'vitest';
import anew from '../../chaos/anew.ts';
import { expectNoProblems, shortGround } from './ground.ts';

const brokers = inject('brokers');

describe.skipIf(!brokers)('a log that is made anew under the same name, or grows', () => {
  it('is trained on by nobody who began with the one before', { timeout: 180_000 }, async (context) => {
    const outcome = await anew(await shortGround(context, brokers, 5), { rounds: 1, batches: 500 });
    await expectNoProblems(context, outcome);
    expect(outcome.counts).toMatchObject({ 'topic made anew under': 1, 'file made anew between': 1, 'partitions added': 1 });
  });
});
