import { describe, expect, inject, it } from 'vitest';
import mutations from '../../chaos/mutations.ts';
import { expectNoProblems, shortGround } from './ground.ts';

const brokers = inject('brokers');

describe.skipIf(!brokers)('messages that were tampered with, on Kafka', () => {
  it('are applied or become dead letters', async (context) => {
    const outcome = await mutations(await shortGround(context, brokers), { mutations: 2000 });
    await expectNoProblems(context, outcome);
    expect(outcome.counts.applied).toBeGreaterThan(200);
    expect(outcome.counts['dead letters']).toBeGreaterThan(1000);
  });
});
