import { expect, it } from 'vitest';
import { Random } from '../../chaos/random.ts';
import torn from '../../chaos/torn.ts';

it('predicts with whole versions, none older than the last, while a million weights change without a pause', async () => {
  const ground = { random: new Random(6), folder: '', brokers: async () => '', say: () => {} };
  const outcome = await torn(ground, { predictions: 5000 });
  expect(outcome.problems).toEqual([]);
  expect(outcome.counts.predictions).toBeGreaterThanOrEqual(5000);
});
