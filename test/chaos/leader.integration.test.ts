import { describe, expect, inject, it } from 'vitest';
import leader from '../../chaos/leader.ts';
import { expectNoProblems, shortGround } from './ground.ts';

describe.skipIf(inject('clusterMissing'))('a training whose partition loses its leader', () => {
  it('comes to the bits of one that nothing happened to', async (context) => {
    const outcome = await leader(await shortGround(context), { batches: 2000, kills: 2 });
    await expectNoProblems(context, outcome);
    expect(outcome.counts).toMatchObject({ kills: 2, 'appends tried again': 0 });
  });
});
