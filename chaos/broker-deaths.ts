import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { FileCheckpoints } from '../src/index.ts';
import { ProcessCluster } from '../test/broker/process-cluster.ts';
import { quietClient } from '../test/broker/wait-until-ready.ts';
import type { Ground, Outcome } from './ground.ts';
import type { Random } from './random.ts';
import { type RecordedLog, recordedLog } from './recorded-log.ts';
import { differences, haveSameTensors, misfits } from './state.ts';
import { filledTopic, withTransport } from './topics.ts';
import { Training } from './training.ts';
import { runArguments, wholeRun } from './whole-run.ts';

export interface DeathCounts {
  readonly batches: number;
  readonly kills: number;
}

export const full: DeathCounts = { batches: 20_000, kills: 20 };

const perAppend = 20;
const paceMs = 10;

/**
 * Kills the leader of the gradients' partition while one process produces and another one trains, and starts it again: of one
 * broker, that is the broker; of three, whichever leads.
 */
export async function brokerDeaths(
  name: string,
  nodes: 1 | 3,
  ground: Ground,
  { batches, kills }: DeathCounts,
): Promise<Outcome> {
  const { random, folder, say } = ground;
  const log = recordedLog(random.below(2 ** 31), batches);
  const cluster = await ProcessCluster.start({ nodes });
  try {
    const { brokers } = cluster;
    return await withTransport(brokers, async (transport) => {
      const topic = await filledTopic(transport, []);
      const file = join(folder, 'state.safetensors');
      const store = new FileCheckpoints(join(folder, 'checkpoints'));
      const checkpoints = ['--checkpoints', join(folder, 'checkpoints'), '--checkpoint-every', '100'];
      let atDeath = 0;
      const run = Training.rxgrad([...runArguments(brokers, topic, file), ...checkpoints]);
      await run.says('goes on from version');

      /** Waits until the training has gone on, so that each death meets one that goes. */
      async function trained(): Promise<void> {
        while ((await newest()) === atDeath && !run.ended) await delay(50);
      }
      async function newest(): Promise<number> {
        return (await store.list())[0]!.version;
      }
      let deaths = 0;
      async function die(afterMs: number): Promise<void> {
        await delay(afterMs);
        const leader = await leaderOf(cluster, topic);
        await leader.kill();
        atDeath = await newest();
        await leader.start();
        deaths += 1;
        say(`${name}: broker ${leader.id} was killed and is back (${deaths} of ${kills})`);
      }
      let retries = 0;
      async function append(at: number): Promise<void> {
        try {
          await transport.produce(topic, log.records.slice(at, at + perAppend));
        } catch (error) {
          retries += 1;
          say(`${name}: an append is tried again: ${(error as Error).message}`);
          return append(at);
        }
      }

      const moments = momentsOf(random, kills, log);
      let death = Promise.resolve();
      for (let at = 0; at < log.records.length; at += perAppend) {
        while (moments.length > 0 && moments[0]! <= at) {
          moments.shift();
          await death;
          await trained();
          death = die(random.below(2 * paceMs));
          // Its failure is thrown where it is waited for.
          death.catch(() => {});
        }
        await append(at);
        await delay(paceMs);
      }
      await death;

      const problems: string[] = [];
      if (await run.says(`version ${batches} `)) {
        run.signal('SIGTERM');
        await run.finished();
        const state = await readFile(file);
        const again = await wholeRun(brokers, topic, log, folder);
        const calm = await wholeRun(brokers, await filledTopic(transport, log.records), log, folder);
        problems.push(...differences(state, again.state), ...misfits(state, log));
        if (!haveSameTensors(state, calm.state)) problems.push('the log that was produced calmly leads to other bits');
      } else problems.push(`the training ended:\n${run.said.slice(-2000)}`);
      return { counts: { batches, kills: deaths, 'appends tried again': retries }, problems };
    });
  } finally {
    await cluster.stop();
  }
}

/** So many places in the log, in their order, with room for some steps between them. */
function momentsOf(random: Random, count: number, { records }: RecordedLog): number[] {
  const room = records.length / (count + 1);
  return Array.from({ length: count }, (_, i) => Math.floor(room * (i + 0.5 + 0.5 * random.share())));
}

async function leaderOf({ nodes, brokers }: ProcessCluster, topic: string) {
  for (;;) {
    const admin = quietClient(brokers).admin();
    try {
      await admin.connect();
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
      const leader = nodes.find(({ id, running }) => running && id === topics[0]!.partitions[0]!.leader);
      if (leader) return leader;
    } catch {
      // Between two leaders there is none.
    } finally {
      await admin.disconnect();
    }
    await delay(100);
  }
}
