import { expect, it } from 'vitest';
import { type GatedTraining, gatedTraining } from '../../bench/gated-training.ts';

const flipped = [250, 350] as const;
const setting = { batches: 500, flipped, batchSize: 32, delay: 4, concepts: 1, seed: 5 };

/** Share of the events that were predicted right, of the batches whose labels the trainer gets flipped. */
function servedMeanwhile({ moments }: GatedTraining): number {
  const served = moments.filter(({ batch }) => batch >= flipped[0] + 20 && batch < flipped[1]).map((moment) => moment.served);
  return served.reduce((sum, share) => sum + share, 0) / served.length;
}

function fall({ moments }: GatedTraining): number {
  return Math.max(...moments.map(({ best, heldOut }) => best - heldOut));
}

it('serves on behind a gate what was learnt before labels were flipped', async () => {
  const gated = await gatedTraining({ ...setting, gate: { margin: 0.01, maxExamples: 3000 } });
  expect(fall(gated)).toBeLessThanOrEqual(0.02);
  expect(servedMeanwhile(gated)).toBeGreaterThan(0.8);

  const of = (decision: string, from: number, to: number) =>
    gated.decisions.filter(({ decision: decided, batch }) => decided === decision && batch >= from && batch < to);
  expect(of('promoted', 0, flipped[0]).length).toBeGreaterThanOrEqual(3);
  expect(of('rejected', ...flipped).length).toBeGreaterThanOrEqual(5);
  const learntFlipped = of('promoted', 0, setting.batches).filter(({ version }) => version > flipped[0] + 10);
  expect(learntFlipped.filter(({ version }) => version <= flipped[1])).toEqual([]);
});

it('serves what is learnt from flipped labels without a gate', async () => {
  const plain = await gatedTraining({ ...setting, gate: null });
  expect(fall(plain)).toBeGreaterThan(0.5);
  expect(servedMeanwhile(plain)).toBeLessThan(0.5);
});
