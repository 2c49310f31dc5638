import { brokerDeaths, type DeathCounts, full } from './broker-deaths.ts';
import type { Ground, Outcome } from './ground.ts';

/** Kills the one broker that there is. */
export default function broker(ground: Ground, counts: DeathCounts = full): Promise<Outcome> {
  return brokerDeaths('broker', 1, ground, counts);
}
