import { randomUUID } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import kafkajs from 'kafkajs';
import { openCheckpoint } from '../src/checkpoints/checkpoint-file.ts';
import { embeddedLog, FileCheckpoints, type NewRecord, type Transport } from '../src/index.ts';
import { markOf } from '../src/record-mark.ts';
import { describeTopic } from '../src/sources/describe-topic.ts';
import type { Ground, Outcome } from './ground.ts';
import { type RecordedLog, recordedLog } from './recorded-log.ts';
import { differences } from './state.ts';
import { withTransport } from './topics.ts';
import { Training } from './training.ts';
import { type Place, runArguments, wholeRun } from './whole-run.ts';

export interface AnewCounts {
  /** Rounds of each kind. */
  readonly rounds: number;
  readonly batches: number;
}

export const full: AnewCounts = { rounds: 10, batches: 2000 };

const refusals = {
  between: 'another one of that name',
  under: /deleted and made anew|deleted, or moved|replaced while it was open|expected a topic that exists|expected an offset/,
  grown: 'expected one partition',
};
const endsWithinMs = 60_000;

/** A log, and what a scenario does to it. */
interface Log {
  readonly place: Place;
  readonly topic: string;
  fill(records: readonly NewRecord[]): Promise<void>;
  /** Deletes it and makes it under the same name. */
  makeAnew(records: readonly NewRecord[]): Promise<void>;
  id(): Promise<string | null>;
  close(): Promise<void>;
}

/**
 * Logs that are deleted and made anew under the same name with other and more records, between two trainings and under one, and topics that
 * get more partitions: each time the training is refused, and no checkpoint contains a record of the wrong log.
 */
export default async function anew(ground: Ground, { rounds, batches }: AnewCounts = full): Promise<Outcome> {
  const { random, folder, say } = ground;
  const brokers = await ground.brokers();
  const counts: Record<string, number> = {};
  const problems: string[] = [];
  const count = (what: string): void => {
    counts[what] = (counts[what] ?? 0) + 1;
  };

  for (let round = 1; round <= rounds; round++) {
    const kinds: [string, () => Promise<Log>][] = [
      ['file', () => fileLog(join(folder, `log-${round}-${randomUUID()}`))],
      ['topic', () => topicLog(brokers)],
    ];
    for (const [kind, open] of kinds) {
      for (const moment of ['between', 'under'] as const) {
        const log = await open();
        const [before, after] = [batches, 2 * batches].map((length) => recordedLog(random.below(2 ** 31), length));
        const checkpoints = join(folder, `checkpoints-${kind}-${moment}-${round}`);
        const told = await replaced(log, moment, before!, after!, checkpoints, folder, random.share());
        problems.push(...told.map((problem) => `${kind}, made anew ${moment} trainings, round ${round}: ${problem}`));
        count(`${kind} made anew ${moment}`);
        await log.close();
      }
    }
    const told = await grown(brokers, recordedLog(random.below(2 ** 31), batches), join(folder, `grown-${round}`), folder);
    problems.push(...told.map((problem) => `partitions added, round ${round}: ${problem}`));
    count('partitions added');
    say(`anew: ${round} of ${rounds} rounds`);
  }
  return { counts, problems };
}

/** What was not as it had to be with a log that was made anew. */
async function replaced(
  log: Log,
  moment: 'between' | 'under',
  before: RecordedLog,
  after: RecordedLog,
  checkpoints: string,
  folder: string,
  share: number,
): Promise<string[]> {
  await log.fill(before.records);
  const id = await log.id();
  const args = [
    ...runArguments(log.place, log.topic, join(folder, 'state.safetensors')),
    ...['--checkpoints', checkpoints, '--checkpoint-every', '50', '--checkpoint-every-ms', '100'],
  ];
  const store = new FileCheckpoints(checkpoints);
  const problems: string[] = [];
  if (moment === 'between') {
    await Training.rxgrad([...args, '--until-end']).finished();
    const newest = (await store.list())[0]!.version;
    await log.makeAnew(after.records);
    const said = await refusal(Training.rxgrad([...args, '--until-end']));
    if (!said.includes(refusals.between)) problems.push(`the second training was not refused:\n${said.slice(-500)}`);
    if ((await store.list())[0]!.version !== newest) problems.push('it wrote a checkpoint');
  } else {
    const running = Training.rxgrad(args);
    const from = Math.floor(share * before.batches);
    while (!running.ended && ((await store.list())[0]?.version ?? 0) < from) await delay(5);
    await log.makeAnew(after.records);
    const said = await refusal(running);
    if (!refusals.under.test(said)) problems.push(`the training did not end by what was done:\n${said.slice(-500)}`);
    const again = await refusal(Training.rxgrad([...args, '--until-end']));
    if (!again.includes(refusals.between)) problems.push(`the next training was not refused:\n${again.slice(-500)}`);
  }
  return [...problems, ...(await strangers(store, before, id, log.topic))];
}

/** What the newest checkpoint contains of another log than the one that was there first. */
async function strangers(
  store: FileCheckpoints,
  { records, batches }: RecordedLog,
  id: string | null,
  topic: string,
): Promise<string[]> {
  const { version } = (await store.list())[0]!;
  const { log, positions } = openCheckpoint(await store.read(version), store.name);
  const [, , next = 0] = positions[0] ?? [];
  const known = log?.topics.find(([of]) => of === topic)?.[1];
  const [, , offset, timestampMs, crc] = log?.last[0] ?? [];
  const own = offset === undefined ? null : markOf({ ...asHeld(records[offset]!), offset, timestampMs: timestampMs! });
  return [
    ...(version <= batches && next <= records.length
      ? []
      : [`version ${version} at offset ${next} is more than the first log held`]),
    ...(known === id ? [] : [`version ${version} says that it is of the topic ${known}, not ${id}`]),
    ...(!own || own.crc === crc ? [] : [`the last record of version ${version} is none of the first log`]),
  ];
}

/** Partitions that are added under a training end it, and the next one has to say which it reads; then it comes to the same bits. */
async function grown(brokers: string, recorded: RecordedLog, checkpoints: string, folder: string): Promise<string[]> {
  const log = await topicLog(brokers);
  try {
    await log.fill(recorded.records);
    const whole = await wholeRun(log.place, log.topic, recorded, folder);
    const file = join(folder, 'state.safetensors');
    const args = [...runArguments(log.place, log.topic, file), '--checkpoints', checkpoints, '--checkpoint-every', '50'];
    const running = Training.rxgrad(args);
    await running.says('goes on from version');
    await log.grow(3);
    const problems: string[] = [];
    for (const start of [() => running, () => Training.rxgrad([...args, '--until-end'])]) {
      const said = await refusal(start());
      if (!said.includes(refusals.grown)) problems.push(`a training was not refused:\n${said.slice(-500)}`);
    }
    await Training.rxgrad([...args, '--until-end', '--partition', '0']).finished();
    return [...problems, ...differences(await readFile(file), whole.state)];
  } finally {
    await log.close();
  }
}

/** What a training has said that has to end by itself, with an error. */
async function refusal(training: Training): Promise<string> {
  const code = await Promise.race([training.exit(), delay(endsWithinMs, 'late' as const, { ref: false })]);
  if (code === 'late') await training.kill();
  return typeof code === 'number' && code !== 0
    ? training.said
    : `it ended with ${code}: ${training.said}`.replaceAll(/expected/g, '…');
}

async function fileLog(path: string): Promise<Log> {
  const topic = 'gradients';
  const open = async (): Promise<Transport> => {
    const transport = embeddedLog(path, { synchronous: 'normal' });
    await transport.createTopic(topic);
    return transport;
  };
  let transport = await open();
  return {
    place: { log: path },
    topic,
    async fill(records) {
      await transport.produce(topic, records);
    },
    async makeAnew(records) {
      await transport.close();
      for (const suffix of ['', '-wal', '-shm', '-ends']) await rm(path + suffix, { force: true });
      transport = await open();
      await transport.produce(topic, records);
    },
    id: async () => (await describeTopic(transport, topic)).id,
    close: () => transport.close(),
  };
}

async function topicLog(brokers: string): Promise<Log & { grow(partitions: number): Promise<void> }> {
  const topic = `anew-${randomUUID()}`;
  const admin = new kafkajs.Kafka({ brokers: brokers.split(','), logLevel: kafkajs.logLevel.NOTHING }).admin();
  await admin.connect();
  const withTopic = <T>(action: (transport: Transport) => Promise<T>): Promise<T> => withTransport(brokers, action);
  const fill = (records: readonly NewRecord[]): Promise<void> =>
    withTopic(async (transport) => {
      await transport.createTopic(topic);
      for (let at = 0; at < records.length; at += 1000) await transport.produce(topic, records.slice(at, at + 1000));
    });
  const id = () => withTopic(async (transport) => (await describeTopic(transport, topic)).id);
  return {
    place: brokers,
    topic,
    fill,
    async makeAnew(records) {
      const before = await id();
      await admin.deleteTopics({ topics: [topic] });
      // Its name is free a moment later.
      for (let now: string | null = before; now === before || now === null; await delay(20)) {
        await admin.createTopics({ topics: [{ topic, numPartitions: 1 }], waitForLeaders: true }).catch(() => false);
        now = await id().catch(() => null);
      }
      await fill(records);
    },
    async grow(count) {
      await admin.createPartitions({ topicPartitions: [{ topic, count }] });
    },
    id,
    close: () => admin.disconnect(),
  };
}

function asHeld({ key, value, headers = {} }: NewRecord) {
  return { key: typeof key === 'string' ? Buffer.from(key) : (key ?? null), value, headers };
}
