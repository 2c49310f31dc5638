import { describe, expect, inject, it } from 'vitest';
import kill from '../../chaos/kill.ts';
import { expectNoProblems, shortGround } from './ground.ts';

const brokers = inject('brokers');

describe.skipIf(!brokers)('a training that is killed', () => {
  it('comes to the bits of one that was not', async (context) => {
    const ground = await shortGround(context, brokers);
    const outcome = await kill(ground, { batches: 5000, runs: 3, checkpointEvery: 100 });
    await expectNoProblems(context, outcome);
    expect(outcome.counts).toMatchObject({ 'folder: runs': 3, 'topic: runs': 3 });
  });
});
