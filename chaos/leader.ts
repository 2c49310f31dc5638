import { brokerDeaths, type DeathCounts, full } from './broker-deaths.ts';
import type { Ground, Outcome } from './ground.ts';

/** Kills the leader among three brokers. */
export default function leader(ground: Ground, counts: DeathCounts = full): Promise<Outcome> {
  return brokerDeaths('leader', 3, ground, counts);
}
