import { describe, expect, inject, it } from 'vitest';
import disk from '../../chaos/disk.ts';
import { expectNoProblems, shortGround } from './ground.ts';

const brokers = inject('brokers');

describe.skipIf(!brokers)('a training whose checkpoints find no room, or are damaged', () => {
  it('says so, and comes to the same bits', async (context) => {
    const outcome = await disk(await shortGround(context, brokers), { batches: 4000, times: 1 });
    await expectNoProblems(context, outcome);
    expect(outcome.counts).toMatchObject({
      'no room in a file': 1,
      'truncated checkpoint in a folder': 1,
      'flipped bit in a topic': 1,
    });
  });
});
