import { join } from 'node:path';
import { ProcessCluster } from '../test/broker/process-cluster.ts';
import type { Ground, Outcome } from './ground.ts';
import { play } from './operations/schedule.ts';
import { Random } from './random.ts';

export interface OperationsCounts {
  readonly schedules: number;
}

export const full: OperationsCounts = { schedules: 100 };

/**
 * Plays random schedules of faults on three brokers under producers, a trainer, a group of shard members, a replica, dead letters and
 * checkpoints that are pinned: all come to the end that they would have come to without, and soon after the last fault.
 */
export default async function operations(ground: Ground, { schedules }: OperationsCounts = full): Promise<Outcome> {
  const { random, folder, say } = ground;
  const counts: Record<string, number> = { schedules: 0, calls: 0, pins: 0 };
  const longest: Record<string, number> = {};
  const problems: string[] = [];
  const endMs = Date.now() + 60_000 * (ground.minutes ?? 0);
  const cluster = await ProcessCluster.start({ nodes: 3 });
  try {
    while (counts.schedules! < schedules && !(ground.minutes && Date.now() > endMs)) {
      const seed = random.below(2 ** 31);
      const played = await play(cluster, new Random(seed), join(folder, String(seed))).catch((error: Error) => ({
        faults: {},
        recoveredMs: {},
        calls: 0,
        pins: 0,
        problems: [error.stack ?? error.message],
      }));
      counts.schedules! += 1;
      counts.calls! += played.calls;
      counts.pins! += played.pins;
      for (const [name, times] of Object.entries(played.faults)) counts[name] = (counts[name] ?? 0) + times;
      for (const [role, ms] of Object.entries(played.recoveredMs)) longest[role] = Math.max(longest[role] ?? 0, ms);
      problems.push(...played.problems.map((problem) => `schedule ${seed}: ${problem}`));
      const faults = Object.entries(played.faults).map(([name, times]) => `${name} ${times}`);
      say(
        `operations: ${counts.schedules} of ${schedules}, schedule ${seed}: ${faults.join(', ')}; ${played.problems.length} problems`,
      );
      for (const problem of played.problems) say(`  ${problem.slice(0, 3000)}`);
    }
  } finally {
    await cluster.stop();
  }
  const recovered = Object.entries(longest).map(([role, ms]) => [`${role}: s to the end`, (ms / 1000).toFixed(1)] as const);
  return { counts: { ...counts, ...Object.fromEntries(recovered) }, problems };
}
