import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Ground, Outcome } from './ground.ts';
import { Members } from './members.ts';
import { withTransport } from './topics.ts';

export interface PauseCounts {
  readonly batches: number;
  readonly times: number;
}

export const full: PauseCounts = { batches: 5000, times: 3 };

/** How long a member may be silent before its group goes on without it. */
const sessionMs = 15_000;

/** Stops a member for longer than its session, and lets it go on: alone, and when another one has taken over. */
export default async function pause(ground: Ground, { batches, times }: PauseCounts = full): Promise<Outcome> {
  const problems: string[] = [];
  let pauses = 0;
  let takeovers = 0;
  for (let time = 0; time < times; time++) {
    const both = await Promise.all([
      paused(ground, join(ground.folder, `alone-${time}`), batches, false),
      paused(ground, join(ground.folder, `two-${time}`), batches, true),
    ]);
    pauses += both.length;
    takeovers += both[1]!.takeovers;
    problems.push(...both.flatMap((each) => each.problems));
    ground.say(`pause: ${pauses} of ${2 * times}`);
  }
  return { counts: { pauses, 'partitions taken over meanwhile': takeovers }, problems };
}

async function paused({ random, brokers: broker }: Ground, folder: string, batches: number, another: boolean) {
  await mkdir(folder);
  const brokers = await broker();
  return withTransport(brokers, async (transport) => {
    const partitions = [batches, batches];
    const group = await Members.create(transport, random, { brokers, folder, partitions, checkpointEvery: 100 });
    const first = group.start();
    const producing = group.produce(0, 0.5, 2000);
    await first.says('is at version 100.');
    await delay(random.below(1500));
    first.signal('SIGSTOP');
    const second = another ? group.start() : null;
    await producing;
    await group.produce(0.5, 0.8, sessionMs);
    const taken = second && (await Promise.all([second.says('begins 0 '), second.says('begins 1 ')]));
    await delay(1000 + random.below(2000));
    first.signal('SIGCONT');
    await group.produce(0.8, 1, 1000);
    const missing = await group.finished(90_000);
    const problems = [...missing, ...(await group.end())].map((problem) => `${another ? 'with another' : 'alone'}: ${problem}`);
    return { takeovers: taken?.filter(Boolean).length ?? 0, problems };
  });
}
