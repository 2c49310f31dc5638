import type { TopicSettings } from './transport.ts';

/** The settings of a topic in a log that no broker keeps: nothing of it is deleted by age or size. */
export function settingsWithoutBrokers(own: Pick<TopicSettings, 'compacted' | 'maxMessageBytes'>): TopicSettings {
  return {
    ...own,
    deletes: false,
    retentionMs: null,
    retentionBytes: null,
    times: 'log',
    minInSyncReplicas: null,
    uncleanLeaders: false,
    deleteRetentionMs: null,
    minCompactionLagMs: null,
    maxCompactionLagMs: null,
    replicas: [],
    brokers: [],
    server: null,
  };
}
