import { setTimeout as delay } from 'node:timers/promises';
import type { Ground, Outcome } from './ground.ts';
import { Members } from './members.ts';
import { withTransport } from './topics.ts';

export interface RebalanceCounts {
  readonly partitions: readonly number[];
  readonly seconds: number;
}

export const full: RebalanceCounts = { partitions: [5000, 5000, 5000, 5000], seconds: 60 };

const members = 3;

/** Changes a group every second: a member leaves, dies, or joins. Each partition comes to the state of one that stayed. */
export default async function rebalance(ground: Ground, { partitions, seconds }: RebalanceCounts = full): Promise<Outcome> {
  const { random, folder, say } = ground;
  const brokers = await ground.brokers();
  return withTransport(brokers, async (transport) => {
    const group = await Members.create(transport, random, { brokers, folder, partitions, checkpointEvery: 100 });
    for (let i = 0; i < members; i++) group.start();
    const producing = group.produce(0, 1, 1000 * seconds);
    const changes = { left: 0, killed: 0, joined: 0 };
    for (let second = 0; second < seconds; second++) {
      await delay(1000);
      const { running } = group;
      if (running.length < members) {
        group.start();
        changes.joined += 1;
        continue;
      }
      const member = running[random.below(running.length)]!;
      const dies = random.chance(0.3);
      member.signal(dies ? 'SIGKILL' : 'SIGTERM');
      changes[dies ? 'killed' : 'left'] += 1;
    }
    await producing;
    while (group.running.length < members) group.start();
    say(`rebalance: ${seconds} s are over; what is left is trained`);
    const missing = await group.finished(120_000);
    const takeovers = group.all.reduce((sum, { said }) => sum + said.split('begins ').length - 1, 0);
    const problems = [...missing, ...(await group.end())];
    return { counts: { ...changes, 'partitions taken over': takeovers - partitions.length }, problems };
  });
}
