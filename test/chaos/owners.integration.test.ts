import { describe, expect, it } from 'vitest';
import owners from '../../chaos/owners.ts';
import { expectNoProblems, shortGround } from './ground.ts';

describe('trainings that share a folder of checkpoints', () => {
  it('follow one another to the bits of one that was alone, and those before end with the error', {
    timeout: 180_000,
  }, async (context) => {
    const outcome = await owners(await shortGround(context, null, 3), { batches: 2000, takeovers: 5, checkpointEvery: 20 });
    await expectNoProblems(context, outcome);
    expect(outcome.counts.takeovers).toBe(5);
    expect(outcome.counts['ended by the error']).toBeGreaterThanOrEqual(3);
  });
});
