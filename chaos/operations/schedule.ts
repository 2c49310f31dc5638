import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ProcessCluster } from '../../test/broker/process-cluster.ts';
import { quietClient } from '../../test/broker/wait-until-ready.ts';
import { Members } from '../members.ts';
import { Producing, partitions } from '../producing.ts';
import { Random } from '../random.ts';
import { recordedLog } from '../recorded-log.ts';
import { withTransport } from '../topics.ts';
import { brokerFaults, type Fault, processFaults } from './faults.ts';
import { Pins } from './pins.ts';
import { Replica } from './replica.ts';
import { Trainer } from './trainer.ts';
import type { ProcessRole, Role, World } from './world.ts';

export interface Played {
  /** How often each fault happened. */
  readonly faults: Readonly<Record<string, number>>;
  /** Milliseconds that each role took to its end once all faults were over. */
  readonly recoveredMs: Readonly<Record<string, number>>;
  readonly calls: number;
  readonly pins: number;
  readonly problems: readonly string[];
}

/** How long a role may take to come to its end, once nothing goes wrong any more. */
export const limitMs = 90_000;
const producingMs = 20_000;
const batches = 1000;
const memberBatches = [400, 400, 400];

/** Plays one schedule of faults, of a number that the seed decides, under all roles. */
export async function play(cluster: ProcessCluster, random: Random, folder: string): Promise<Played> {
  await mkdir(folder, { recursive: true });
  const { brokers } = cluster;
  const admin = quietClient(brokers).admin();
  await admin.connect();
  try {
    return await withTransport(brokers, async (transport) => {
      const id = randomUUID();
      const topics = {
        calls: `calls-${id}`,
        gradients: `gradients-${id}`,
        letters: `letters-${id}`,
        checkpoints: `compacted-checkpoints-${id}`,
        weights: `compacted-weights-${id}`,
      };
      await transport.createTopic(topics.calls, { partitions });
      for (const topic of [topics.gradients, topics.letters]) await transport.createTopic(topic);
      for (const topic of [topics.checkpoints, topics.weights]) await transport.createTopic(topic, { compacted: true });
      const trainer = new Trainer(transport, brokers, topics, recordedLog(random.below(2 ** 31), batches), folder);
      const members = await membersOf(transport, random, brokers, folder);
      const producing = new Producing(transport, topics.calls);
      const replica = await Replica.follow(transport, topics.weights, batches);
      const pins = new Pins(transport, topics.checkpoints);
      const counted = new Map(Object.values(topics).map((topic) => [topic, topic === topics.calls ? partitions : 1]));
      const world: World = { cluster, admin, transport, processes: [trainer, members], topics: counted };
      const faults: Record<string, number> = {};
      const endCalls = producing.start();
      const produced = Promise.all([trainer.produce(producingMs), members.produce(producingMs)]);
      await Promise.all([
        inTurn(brokerFaults, world, new Random(random.below(2 ** 31)), faults),
        inTurn(processFaults, world, new Random(random.below(2 ** 31)), faults),
      ]);
      const calmMs = Date.now();
      const recoveredMs: Record<string, number> = {};
      const problems: string[] = [];
      const calls = endCalls().then(() => {
        recoveredMs.producers = Date.now() - calmMs;
      });
      await within(Promise.all([produced, calls]), 'appending goes on', problems);
      const roles: Role[] = [trainer, members, replica, pins];
      await Promise.all(
        roles.map(async (role) => {
          problems.push(...(await role.finished(Math.max(1, calmMs + limitMs - Date.now()))));
          recoveredMs[role.name] = Date.now() - calmMs;
        }),
      );
      for (const role of roles) problems.push(...(await role.end()));
      problems.push(...(await producing.wrongs()), ...[...producing.rejected.values()].map((why) => `rejected: ${why}`));
      return { faults, recoveredMs, calls: producing.calls, pins: pins.count, problems };
    });
  } finally {
    await admin.disconnect();
  }
}

async function inTurn(
  kinds: Readonly<Record<string, Fault>>,
  world: World,
  random: Random,
  counts: Record<string, number>,
): Promise<void> {
  const names = Object.keys(kinds);
  for (let left = 1 + random.below(3); left > 0; left--) {
    await delay(500 + random.below(3000));
    const name = names[random.below(names.length)]!;
    await kinds[name]!(world, random);
    counts[name] = (counts[name] ?? 0) + 1;
  }
}

async function within(work: Promise<unknown>, what: string, problems: string[]): Promise<void> {
  const late = delay(limitMs, 'late', { ref: false });
  try {
    if ((await Promise.race([work, late])) === 'late') problems.push(`${what} after ${limitMs / 1000} s`);
  } catch (error) {
    problems.push(`${what}: ${(error as Error).message}`);
  }
}

/** A group that trains the shards of a topic. */
async function membersOf(transport: World['transport'], random: Random, brokers: string, parent: string) {
  const folder = join(parent, 'members');
  await mkdir(folder);
  const group = await Members.create(transport, random, { brokers, folder, partitions: memberBatches, checkpointEvery: 50 });
  group.start();
  group.start();
  const role: ProcessRole & { produce(overMs: number): Promise<void> } = {
    name: 'members',
    get running() {
      return group.running;
    },
    start: () => void group.start(),
    produce: (overMs) => group.produce(0, 1, overMs),
    finished: (timeoutMs) => group.finished(timeoutMs),
    end: async () => (await group.end()).map((problem) => `members: ${problem}`),
  };
  return role;
}
