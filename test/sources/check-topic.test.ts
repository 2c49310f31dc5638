import { randomUUID } from 'node:crypto';
import {
  type CheckpointStore,
  checkTopic,
  deadLetters,
  encodeEvent,
  FileCheckpoints,
  fromTransport,
  gradientBatch,
  KafkaCheckpoints,
  memoryTransport,
  Parameters,
  publishWeights,
  recover,
  replay,
  sgd,
  type TopicRole,
  type TopicSettings,
  type Transport,
  trainPartitions,
  weightsFrom,
} from 'rxgrad';
import { lastValueFrom, pipe } from 'rxjs';
import { expect, it } from 'vitest';
import { findingsOf } from '../../src/sources/topic-rules.ts';
import { folders, warningsOf } from '../checkpoints/courses.ts';

const place = folders();

/** A topic of three brokers that fits what holds all records. */
const kept: TopicSettings = {
  compacted: false,
  deletes: true,
  retentionMs: 604_800_000,
  retentionBytes: null,
  maxMessageBytes: 1_048_588,
  times: 'producer',
  minInSyncReplicas: 2,
  uncleanLeaders: false,
  deleteRetentionMs: 86_400_000,
  minCompactionLagMs: 0,
  maxCompactionLagMs: null,
  replicas: [
    [1, 2, 3],
    [2, 3, 1],
  ],
  brokers: [1, 2, 3],
  server: 'kafka:9092',
};
/** One that fits what holds the newest record of each key. */
const compacted: TopicSettings = { ...kept, compacted: true, deletes: false, retentionMs: null };
const alter = 'kafka-configs.sh --bootstrap-server kafka:9092 --alter --entity-type topics --entity-name t --add-config';
const fitting = { gradients: kept, 'dead-letters': kept, checkpoints: compacted, weights: compacted };
const roles = Object.keys(fitting) as TopicRole[];

it.each(roles)('finds nothing where a topic fits %s', (role) => {
  expect(findingsOf('t', fitting[role], role, { recordBytes: 1_048_588 })).toEqual([]);
  // A log in a file, or in memory.
  const { replicas: _, ...own } = fitting[role];
  expect(findingsOf('t', { ...own, replicas: [], brokers: [], server: null, minInSyncReplicas: null }, role)).toEqual([]);
});

it.each<[string, readonly TopicRole[], Partial<TopicSettings>, 'error' | 'warning', readonly string[]]>([
  ['compaction', ['gradients', 'dead-letters'], { compacted: true }, 'error', ['cleanup.policy=delete']],
  ['deletion', ['checkpoints', 'weights'], { compacted: false, deletes: true }, 'error', ['cleanup.policy=compact']],
  ['deletion with compaction', ['checkpoints', 'weights'], { deletes: true }, 'error', ['cleanup.policy=compact']],
  ['no policy', ['checkpoints', 'weights'], { compacted: false }, 'warning', ['cleanup.policy=compact']],
  ['small records', ['checkpoints', 'weights'], { maxMessageBytes: 999_999 }, 'error', ['max.message.bytes=1000000']],
  ['a short retention', ['gradients', 'dead-letters'], { retentionMs: 86_399_999 }, 'warning', ['retention.ms=604800000']],
  ['a retention by size', ['gradients'], { retentionBytes: 1e9 }, 'warning', ['retention.bytes=-1']],
  ['short marks', ['checkpoints', 'weights'], { deleteRetentionMs: 3_599_999 }, 'warning', ['delete.retention.ms=86400000']],
  ['early acknowledgement', roles, { minInSyncReplicas: 1 }, 'warning', ['min.insync.replicas=2']],
  ['no acknowledgement', roles, { minInSyncReplicas: 4 }, 'warning', ['min.insync.replicas=2']],
  ['unclean leaders', roles, { uncleanLeaders: true }, 'warning', ['unclean.leader.election.enable=false']],
])('finds %s in %j', (_, of, wrong, severity, changes) => {
  for (const role of of) {
    const found = findingsOf('t', { ...fitting[role], ...wrong }, role, { recordBytes: 1_000_000 });
    expect(found).toMatchObject([{ severity, topic: 't', mend: changes.map((change) => `${alter} ${change}`).join(' && ') }]);
  }
});

it('wants the times of one clock only where a topic is read up to a time', () => {
  expect(findingsOf('t', kept, 'gradients', { byTime: true })).toMatchObject([
    { severity: 'warning', setting: 'message.timestamp.type', mend: `${alter} message.timestamp.type=LogAppendTime` },
  ]);
  expect(findingsOf('t', { ...kept, times: 'log' }, 'gradients', { byTime: true })).toEqual([]);
});

it('spreads replicas over the brokers, three for each partition', () => {
  const found = findingsOf('t', { ...kept, brokers: [1, 2, 3, 4], replicas: [[2], [3]], minInSyncReplicas: 1 }, 'gradients');
  const json =
    '{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[2,1,3]},{"topic":"t","partition":1,"replicas":[3,2,4]}]}';
  const reassign = `echo '${json}' > replicas.json && kafka-reassign-partitions.sh --bootstrap-server kafka:9092 --reassignment-json-file replicas.json --execute`;
  expect(found).toMatchObject([{ severity: 'warning', setting: 'replication factor', found: '1', mend: reassign }]);
  const two = findingsOf('t', { ...kept, replicas: [[2, 1]], minInSyncReplicas: 1 }, 'gradients');
  expect(two).toMatchObject([{ setting: 'min.insync.replicas', mend: expect.stringMatching(/\[2,1,3\].* && .*replicas=2$/) }]);
  const none = findingsOf('t', { ...kept, brokers: [1], replicas: [[1]], minInSyncReplicas: 1 }, 'gradients');
  expect(none).toEqual([]);
});

const gradient = () => encodeEvent(gradientBatch({ gradients: { w: Float32Array.of(1) }, worker: 'a' }), { key: 'model' });
const model = () => Parameters.create({ w: { dims: [1] } });

/** A transport with a topic that is set in the wrong way: compacted where all records are needed, else deleting. */
async function wrong(compacted: boolean): Promise<Transport> {
  const transport = memoryTransport();
  await transport.createTopic('t');
  await transport.produce('t', [gradient()]);
  const topicSettings = async (topic: string) => {
    const settings = (await transport.topicSettings!(topic))!;
    return topic === 't' ? { ...settings, compacted, deletes: !compacted } : settings;
  };
  return { ...transport, topicSettings };
}

const training = { topic: 't', group: 'g', params: model, store: (): CheckpointStore => new FileCheckpoints(place()) };

it.each<[string, TopicRole, (transport: Transport) => Promise<unknown>]>([
  ['fromTransport', 'gradients', (transport) => lastValueFrom(fromTransport(transport, { topic: 't' }))],
  [
    'trainPartitions',
    'gradients',
    (transport) => lastValueFrom(trainPartitions(transport, { ...training, train: ({ params }) => pipe(sgd(params)) })),
  ],
  ['recover', 'gradients', (transport) => recover(model(), new FileCheckpoints(place()), { transport, topic: 't' })],
  ['replay', 'gradients', replayed],
  ['KafkaCheckpoints', 'checkpoints', (transport) => new KafkaCheckpoints(transport, { topic: 't' }).list()],
  ['publishWeights', 'weights', published],
  ['weightsFrom', 'weights', (transport) => lastValueFrom(weightsFrom(transport, { topic: 't', model: 'm' }))],
  ['deadLetters', 'dead-letters', lettered],
])('stops %s at the start', async (_, role, start) => {
  const transport = await wrong(role === 'gradients' || role === 'dead-letters');
  const failed = await start(transport).catch((error: Error & { cause?: unknown }) => error.cause ?? error);
  expect(failed).toMatchObject({ key: 'unfitTopic', details: { topic: 't', role, log: transport.name } });
  expect((failed as Error).message).toContain('create another topic with this setting');
});

/** From a checkpoint of before the topic was compacted. */
async function replayed(transport: Transport): Promise<unknown> {
  const store = new FileCheckpoints(place());
  const { topicSettings: _, ...unchecked } = transport;
  await recover(model(), store, { transport: unchecked, topic: 't' });
  return replay({ store, transport, topic: 't', to: { version: 0 } });
}

async function published(transport: Transport): Promise<unknown> {
  await transport.createTopic('gradients');
  await transport.produce('gradients', [gradient()]);
  const options = { topic: 't', model: 'm', everySteps: 1 };
  const source$ = fromTransport(transport, { topic: 'gradients', until: 'end' });
  return lastValueFrom(source$.pipe(sgd(model()), publishWeights(transport, options)));
}

async function lettered(transport: Transport): Promise<unknown> {
  await transport.createTopic('gradients');
  await transport.produce('gradients', [{ value: null }]);
  const rejections = deadLetters(transport, { topic: 't' });
  const source$ = fromTransport(transport, { topic: 'gradients', until: 'end' });
  return lastValueFrom(source$.pipe(sgd(model(), { rejections })), { defaultValue: null });
}

/** Settings that are told, and how often they were asked for. */
function telling(settings: () => TopicSettings | null): {
  name: string;
  asked(): number;
  topicSettings: () => Promise<TopicSettings | null>;
} {
  let asked = 0;
  return {
    name: `log ${randomUUID()}`,
    asked: () => asked,
    topicSettings: async () => {
      asked += 1;
      return settings();
    },
  };
}

it('asks once for what starts together, and again after an error', async () => {
  let settings = { ...kept, compacted: true };
  const transport = telling(() => settings);
  const [first, second] = await Promise.all([checkTopic(transport, 't', 'gradients'), checkTopic(transport, 't', 'weights')]);
  expect([first, second]).toMatchObject([[{ severity: 'error' }], [{ severity: 'error' }]]);
  expect(transport.asked()).toBe(1);
  settings = kept;
  expect(await checkTopic(transport, 't', 'gradients')).toEqual([]);
  expect(await checkTopic(transport, 't', 'gradients')).toEqual([]);
  expect(transport.asked()).toBe(2);
});

it('warns once for each topic, also of settings that nobody may see', async () => {
  const open = memoryTransport();
  await open.createTopic('t');
  const told = telling(() => ({ ...kept, minInSyncReplicas: 1, retentionMs: 1 }));
  const denied = telling(() => null);
  const reading = (own: typeof told) =>
    warningsOf(() => lastValueFrom(fromTransport({ ...open, ...own }, { topic: 't', until: 'end' }), { defaultValue: null }));
  const codes = (await reading(told)).map(({ code }) => code);
  expect(codes).toEqual(['RXGRAD_TOPIC_SETTINGS', 'RXGRAD_TOPIC_SETTINGS']);
  expect(await reading(told)).toEqual([]);
  expect(await reading(denied)).toMatchObject([
    { code: 'RXGRAD_TOPIC_SETTINGS_UNKNOWN', message: expect.stringContaining('--operation DescribeConfigs --topic t') },
  ]);
  expect(await reading(denied)).toEqual([]);
});
