import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { NewRecord, Transport } from '../src/index.ts';
import { readDeadLetter } from '../src/sinks/dead-letter.ts';
import { readAll } from '../src/sources/read-all.ts';
import { mutate } from '../test/chaos/mutations.ts';
import { validRecord } from '../test/chaos/valid-records.ts';
import type { Ground, Outcome } from './ground.ts';
import type { Random } from './random.ts';
import { haveSameTensors } from './state.ts';
import { filledTopic, withTransport } from './topics.ts';
import { Training } from './training.ts';

/** What the process that trains is told. */
export interface FireSettings {
  readonly brokers: string;
  readonly topic: string;
  /** Topic of the dead letters. */
  readonly dead: string;
  /** Where its state and what it left out go. */
  readonly folder: string;
}

export interface MutationCounts {
  readonly mutations: number;
}

export const full: MutationCounts = { mutations: 100_000 };

const program = fileURLToPath(new URL('./fire.ts', import.meta.url));
const perRound = 100;
const patienceMs = 600_000;
// The engine's caches fill in the beginning.
const warmUpLines = 2;
const mostGrowth = 16 << 20;

/** Trains on messages that were tampered with: each is applied, or a dead letter, and the weights are as if those had not been. */
export default async function mutations(ground: Ground, { mutations: count }: MutationCounts = full): Promise<Outcome> {
  const { random, folder, say } = ground;
  const brokers = await ground.brokers();
  return withTransport(brokers, async (transport) => {
    const problems: string[] = [];
    const { topic, records } = await mutatedTopic(transport, random, count);
    say(`mutations: ${records} records`);
    const fire = await train(brokers, topic, join(folder, 'fire'));

    const letters = new Set<number>();
    await readAll(transport, fire.dead, {}, (record, partition) => {
      const { offset } = readDeadLetter(record, partition)!.position!;
      if (letters.has(offset)) problems.push(`two letters of ${offset}`);
      letters.add(offset);
    });
    for (const [offset, status] of fire.rejected) {
      const merelyTwice = status === 409;
      if (letters.delete(offset) === merelyTwice) {
        problems.push(`${offset} was rejected (${status}) and is ${merelyTwice ? 'a' : 'no'} dead letter`);
      }
    }
    for (const offset of letters) problems.push(`a letter of ${offset}, which was not rejected`);

    const accepted = await copied(transport, topic, fire.rejected);
    const calm = await train(brokers, accepted, join(folder, 'calm'));
    if (calm.rejected.size > 0) problems.push(`${calm.rejected.size} of the accepted records are rejected without the others`);
    if (!haveSameTensors(fire.state, calm.state)) problems.push('the weights are not those of the accepted records');
    const [first, last] = [fire.memory[warmUpLines], fire.memory.at(-1)];
    const growth = first === undefined ? 0 : last! - first;
    if (growth > mostGrowth) problems.push(`memory grew: ${fire.memory.join(', ')}`);
    const twice = [...fire.rejected.values()].filter((status) => status === 409).length;
    const counts = {
      mutations: count,
      applied: records - fire.rejected.size,
      'dead letters': fire.rejected.size - twice,
      'came twice': twice,
      'KiB that memory grew by': Math.round(growth / 1024),
    };
    return { counts, problems };
  });
}

/** Fills a topic with so many mutated records, and one in ten that is as it was. */
async function mutatedTopic(transport: Transport, random: Random, count: number) {
  const topic = await filledTopic(transport, []);
  const share = (): number => random.share();
  let records = 0;
  for (let round = 0, mutated = 0; mutated < count; round++) {
    const batch: NewRecord[] = [];
    for (let i = 0; i < perRound && mutated < count; i++) {
      const record = inRound(validRecord(round * perRound + i, share), round);
      const changed = random.chance(0.9);
      if (changed) mutated += 1;
      batch.push(changed ? mutate(record, share) : record);
    }
    await transport.produce(topic, batch);
    records += batch.length;
  }
  return { topic, records };
}

/** Workers of every round are others: a sequence number that somebody made up would silence one for ever. */
function inRound(record: NewRecord, round: number): NewRecord {
  return { ...record, headers: { ...record.headers, ce_source: `${record.headers!.ce_source}-${round}` } };
}

/** Copies what was not rejected to a topic of its own. */
async function copied(transport: Transport, from: string, rejected: ReadonlyMap<number, number>): Promise<string> {
  const topic = await filledTopic(transport, []);
  let batch: NewRecord[] = [];
  const flush = async (): Promise<void> => {
    const records = batch;
    batch = [];
    if (records.length > 0) await transport.produce(topic, records);
  };
  await readAll(transport, from, {}, async ({ offset, key, value, headers }) => {
    if (rejected.has(offset)) return;
    batch.push({ key, value, headers });
    if (batch.length === perRound) await flush();
  });
  await flush();
  return topic;
}

async function train(brokers: string, topic: string, folder: string) {
  await mkdir(folder);
  const dead = `${topic}-dead`;
  const settings: FireSettings = { brokers, topic, dead, folder };
  const run = new Training(program, [JSON.stringify(settings)]);
  const hung = setTimeout(() => run.signal('SIGKILL'), patienceMs);
  const said = await run.finished().finally(() => clearTimeout(hung));
  const lines = (await readFile(join(folder, 'rejected'), 'utf8')).split('\n').slice(0, -1);
  return {
    dead,
    state: await readFile(join(folder, 'state.safetensors')),
    /** Their status, by offset. */
    rejected: new Map(lines.map((line) => line.split(' ').slice(0, 2).map(Number) as [number, number])),
    memory: [...said.matchAll(/memory (\d+)/g)].map(([, bytes]) => Number(bytes)),
  };
}
