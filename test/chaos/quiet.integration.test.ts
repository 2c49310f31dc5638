import { describe, expect, inject, it } from 'vitest';
import quiet from '../../chaos/quiet.ts';
import { expectNoProblems, shortGround } from './ground.ts';

const brokers = inject('brokers');

describe.skipIf(!brokers)('a training that is killed while its stream is quiet', () => {
  it('reads nothing of a burst again, and comes to the bits of one without pauses', async (context) => {
    const outcome = await quiet(await shortGround(context, brokers), { batches: 1000, bursts: 6, everyMs: 200 });
    await expectNoProblems(context, outcome);
    expect(outcome.counts).toMatchObject({ bursts: 6, 'records read again then': 0 });
  });
});
