import { describe, expect, inject, it } from 'vitest';
import fleet from '../../chaos/fleet.ts';
import { expectNoProblems, shortGround } from './ground.ts';

const brokers = inject('brokers');

describe.skipIf(!brokers)('a training of a fleet that sends out of order and twice, and that is killed', () => {
  it('counts each batch once, and comes to the bits of one that nothing happened to', async (context) => {
    const counts = { workers: 2000, batchesEach: 3, kills: 2, checkpointEvery: 500 };
    const outcome = await fleet(await shortGround(context, brokers), counts);
    await expectNoProblems(context, outcome);
    expect(outcome.counts).toMatchObject({ workers: 2000 });
  });
});
