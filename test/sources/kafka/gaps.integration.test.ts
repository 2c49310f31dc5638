import { randomUUID } from 'node:crypto';
import kafkajs from 'kafkajs';
import {
  checkTopic,
  encodeEvent,
  FileCheckpoints,
  fromTransport,
  gradientBatch,
  KafkaCheckpoints,
  recover,
  sgd,
  type Transport,
  trainPartitions,
} from 'rxgrad';
import { lastValueFrom, toArray } from 'rxjs';
import { afterAll, beforeAll, describe, expect, inject, it, type TestContext } from 'vitest';
import { kafkaTransport } from '../../../src/sources/kafka/index.ts';
import { ProcessCluster } from '../../broker/process-cluster.ts';
import { folders, model } from '../../checkpoints/courses.ts';
import { eventually } from '../../eventually.ts';

const place = folders();
const gradient = (sequence: number) =>
  encodeEvent(gradientBatch({ gradients: { w: Float32Array.of(1, 2) }, worker: 'a', sequence }), { key: 'model' });

describe.skipIf(inject('clusterMissing'))('a topic of Kafka that is read whole', () => {
  let cluster: ProcessCluster;
  beforeAll(async () => {
    cluster = await ProcessCluster.start({ properties: { 'log.cleaner.backoff.ms': '50' } });
  });
  afterAll(() => cluster?.stop());

  async function setUp(context: TestContext, config: Readonly<Record<string, string>> = {}) {
    const brokers = [cluster.brokers];
    const transport = kafkaTransport({ brokers });
    context.onTestFinished(() => transport.close());
    const kafka = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING });
    const admin = kafka.admin();
    await admin.connect();
    context.onTestFinished(() => admin.disconnect());
    const topic = `gaps-${randomUUID()}`;
    const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }));
    await admin.createTopics({ topics: [{ topic, configEntries }] });
    return { transport, kafka, admin, topic };
  }

  const read = (transport: Transport, topic: string) =>
    lastValueFrom(fromTransport(transport, { topic, from: 'beginning', until: 'end' }).pipe(toArray()));

  /** Runs a command that a finding names, as it is. */
  const run = async (command: string): Promise<void> => {
    const [program, ...args] = command.split(' ');
    expect(program).toBe('kafka-configs.sh');
    await cluster.nodes[0]!.command('kafka.admin.ConfigCommand', ...args);
  };

  it('fails at what compaction has removed, once the topic is not compacted any more', async (context) => {
    const { transport, topic } = await setUp(context, {
      'cleanup.policy': 'compact',
      'segment.ms': '50',
      'min.cleanable.dirty.ratio': '0.01',
    });
    const store = new FileCheckpoints(place());
    const { topicSettings: _, ...unchecked } = transport;
    await recover(model(), store, { transport: unchecked, topic });
    for (let i = 0; i < 50; i++) await transport.produce(topic, [gradient(i)]);
    let sent = 50;
    await eventually(async () => {
      // A segment is closed, and then compacted, when another record comes.
      await transport.produce(topic, [gradient(sent++)]);
      const first = await transport.recordAt!(topic, 0, 0);
      expect(first!.offset).toBeGreaterThan(0);
    });

    const refused = {
      key: 'unfitTopic',
      message: expect.stringMatching(/is compact, but must be delete: .*--add-config cleanup.policy=delete$/),
    };
    await expect(read(transport, topic)).rejects.toMatchObject(refused);
    await expect(recover(model(), store, { transport, topic })).rejects.toMatchObject(refused);
    const [finding] = await checkTopic(transport, topic, 'gradients');
    await run(finding!.mend);
    expect(await checkTopic(transport, topic, 'gradients')).toEqual([]);

    const gap = { key: 'offsetGap', details: { where: `${topic}/0`, expected: 0 } };
    await expect(read(transport, topic)).rejects.toMatchObject(gap);
    const { source } = await recover(model(), store, { transport, topic });
    await expect(lastValueFrom(fromTransport(transport, { topic, ...source }))).rejects.toMatchObject(gap);
    const group = { topic, group: `g-${randomUUID()}`, params: model, store: () => new FileCheckpoints(place()) };
    const grouped$ = trainPartitions(transport, { ...group, train: ({ params }) => sgd(params) });
    await expect(lastValueFrom(grouped$)).rejects.toMatchObject(gap);
    // Where nothing is missing from there on, it goes on.
    const end = (await transport.endOffsets(topic))[0]!;
    await transport.produce(topic, [gradient(sent)]);
    const from = new Map([[0, end]]);
    const rest = fromTransport(transport, { topic, from, until: 'end' }).pipe(toArray());
    expect(await lastValueFrom(rest)).toHaveLength(1);
  });

  it('holds marks and aborted records of transactions, and may begin anywhere', async (context) => {
    const { transport, kafka, admin, topic } = await setUp(context);
    const producer = kafka.producer({ transactionalId: topic, maxInFlightRequests: 1, idempotent: true });
    await producer.connect();
    context.onTestFinished(() => producer.disconnect());
    let [sequence, kept] = [0, 0];
    for (const end of ['commit', 'abort', 'abort', 'commit', 'abort', 'commit'] as const) {
      const transaction = await producer.transaction();
      const records = [gradient(sequence++), gradient(sequence++)];
      const messages = records.map(({ key, value, headers }) => ({
        key: key as string,
        value: value as Buffer,
        headers: headers as never,
      }));
      await transaction.send({ topic, messages });
      await transaction[end]();
      if (end === 'commit') kept += 2;
      await transport.produce(topic, [gradient(sequence++)]);
      kept += 1;
    }
    await eventually(async () => expect(await transport.endOffsets(topic)).toEqual([24]));
    expect(await read(transport, topic)).toHaveLength(kept);
    await admin.fetchTopicOffsets(topic);
    // In the middle of a batch, whose first record is gone.
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '1' }] });
    await eventually(async () => expect(await transport.startOffsets(topic)).toEqual([1]));
    expect(await read(transport, topic)).toHaveLength(kept - 1);
    // Among aborted records.
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '5' }] });
    await eventually(async () => expect(await transport.startOffsets(topic)).toEqual([5]));
    expect(await read(transport, topic)).toHaveLength(kept - 3);
  });

  it('is not compacted for checkpoints alone: what deletes them is refused, until the command has been run', async (context) => {
    const { transport, topic } = await setUp(context, { 'max.message.bytes': '500000' });
    const store = new KafkaCheckpoints(transport, { topic });
    const refused = /cleanup.policy is delete, but must be compact: .* max.message.bytes is 500000, but must be at least 902048/;
    await expect(store.list()).rejects.toMatchObject({ key: 'unfitTopic', message: expect.stringMatching(refused) });
    const findings = await checkTopic(transport, topic, 'checkpoints', { recordBytes: 902_048 });
    expect(findings.map(({ severity }) => severity)).toEqual(['error', 'error']);
    for (const { mend } of findings) await run(mend);
    expect(await store.list()).toEqual([]);
  });
});
