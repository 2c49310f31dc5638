import { randomUUID } from 'node:crypto';
import kafkajs from 'kafkajs';
import { afterAll, beforeAll, describe, expect, inject, it, type TestContext } from 'vitest';
import { kafkaTransport } from '../../../src/sources/kafka/index.ts';
import { ProcessCluster } from '../../broker/process-cluster.ts';

describe.skipIf(inject('clusterMissing'))('settings of topics in Kafka', () => {
  let cluster: ProcessCluster;
  beforeAll(async () => {
    cluster = await ProcessCluster.start({ properties: { 'auto.create.topics.enable': 'true' } });
  });
  afterAll(() => cluster?.stop());

  async function setUp(context: TestContext, config: Readonly<Record<string, string>> = {}) {
    const brokers = [cluster.brokers];
    const transport = kafkaTransport({ brokers });
    context.onTestFinished(() => transport.close());
    const admin = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin();
    await admin.connect();
    context.onTestFinished(() => admin.disconnect());
    const topic = `settings-${randomUUID()}`;
    const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }));
    await admin.createTopics({ topics: [{ topic, numPartitions: 2, configEntries }] });
    return { transport, admin, topic };
  }

  it('are told as they are', async (context) => {
    const { transport, topic } = await setUp(context, {
      'cleanup.policy': 'compact,delete',
      'retention.ms': '7200000',
      'retention.bytes': '1000000',
      'max.message.bytes': '500000',
      'message.timestamp.type': 'LogAppendTime',
      'delete.retention.ms': '1000',
      'min.compaction.lag.ms': '5',
      'max.compaction.lag.ms': '60000',
    });
    expect(await transport.topicSettings!(topic)).toEqual({
      compacted: true,
      deletes: true,
      retentionMs: 7_200_000,
      retentionBytes: 1_000_000,
      maxMessageBytes: 500_000,
      times: 'log',
      minInSyncReplicas: 1,
      uncleanLeaders: false,
      deleteRetentionMs: 1000,
      minCompactionLagMs: 5,
      maxCompactionLagMs: 60_000,
      replicas: [[1], [1]],
      brokers: [1],
      server: cluster.brokers,
    });
  });

  it('have no limit where Kafka has none, or does not apply it', async (context) => {
    const { transport, topic } = await setUp(context, { 'retention.ms': '-1' });
    expect(await transport.topicSettings!(topic)).toMatchObject({
      deletes: true,
      retentionMs: null,
      retentionBytes: null,
      times: 'producer',
      maxCompactionLagMs: null,
    });
    const compacted = await setUp(context, { 'cleanup.policy': 'compact', 'retention.ms': '5' });
    const told = await transport.topicSettings!(compacted.topic);
    expect(told).toMatchObject({ compacted: true, deletes: false, retentionMs: null });
  });

  it('create no topic by being asked for', async (context) => {
    const { transport, admin } = await setUp(context);
    await expect(transport.topicSettings!('misspelt')).rejects.toMatchObject({ key: 'unknownTopic' });
    expect(await admin.listTopics()).not.toContain('misspelt');
  });
});
