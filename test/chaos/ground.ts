import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, type TestContext } from 'vitest';
import type { Ground, Outcome } from '../../chaos/ground.ts';
import { Random } from '../../chaos/random.ts';

/** The ground of a scenario in its short form. */
export async function shortGround(context: TestContext, brokers: string | null = null, seed = 1): Promise<Ground> {
  const folder = await mkdtemp(join(tmpdir(), 'rxgrad-chaos-'));
  context.onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return { random: new Random(seed), folder, brokers: async () => brokers!, say: () => {} };
}

/** Notes what happened, and expects that all of it was as it had to be. */
export async function expectNoProblems(context: TestContext, { counts, problems }: Outcome): Promise<void> {
  await context.annotate(
    Object.entries(counts)
      .map(([what, count]) => `${what} ${count}`)
      .join(', '),
  );
  expect(problems).toEqual([]);
}
