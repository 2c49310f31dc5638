import kafkajs, { type Admin } from 'kafkajs';
import type { TopicSettings } from '../transport.ts';
import { isDenied } from './kafka-error.ts';

/** What is asked for, by the names that Kafka has for it. */
const names = [
  'cleanup.policy',
  'retention.ms',
  'retention.bytes',
  'max.message.bytes',
  'message.timestamp.type',
  'min.insync.replicas',
  'unclean.leader.election.enable',
  'delete.retention.ms',
  'min.compaction.lag.ms',
  'max.compaction.lag.ms',
];
/** Kafka's way to say that there is no limit, beside −1. */
const mostMs = 2 ** 63;

/** Asks for a topic's settings; null where this user is not allowed to see them, or the brokers do not tell. */
export async function settingsOf(admin: Admin, topic: string, server: string): Promise<TopicSettings | null> {
  const resources = [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic, configNames: names }];
  const [described, { topics }, { brokers }] = await Promise.all([
    admin.describeConfigs({ resources, includeSynonyms: false }).catch((error: unknown) => {
      if (isDenied(error)) return null;
      throw error;
    }),
    admin.fetchTopicMetadata({ topics: [topic] }),
    admin.describeCluster(),
  ]);
  if (!described) return null;
  const config = new Map(described.resources[0]!.configEntries.map(({ configName, configValue }) => [configName, configValue]));
  const limit = (name: string): number | null => {
    const value = Number(config.get(name) ?? -1);
    return value >= 0 && value < mostMs ? value : null;
  };
  const policies = (config.get('cleanup.policy') ?? '').split(',').map((policy) => policy.trim());
  const deletes = policies.includes('delete');
  const partitions = topics[0]!.partitions.toSorted((a, b) => a.partitionId - b.partitionId);
  return {
    compacted: policies.includes('compact'),
    deletes,
    retentionMs: deletes ? limit('retention.ms') : null,
    retentionBytes: deletes ? limit('retention.bytes') : null,
    maxMessageBytes: limit('max.message.bytes'),
    times: config.get('message.timestamp.type') === 'LogAppendTime' ? 'log' : 'producer',
    minInSyncReplicas: limit('min.insync.replicas'),
    uncleanLeaders: config.get('unclean.leader.election.enable') === 'true',
    deleteRetentionMs: limit('delete.retention.ms'),
    minCompactionLagMs: limit('min.compaction.lag.ms'),
    maxCompactionLagMs: limit('max.compaction.lag.ms'),
    replicas: partitions.map(({ replicas }) => replicas),
    brokers: brokers.map(({ nodeId }) => nodeId).sort((a, b) => a - b),
    server,
  };
}
