import { Command } from 'commander';
import { describeTopic } from '../../sources/describe-topic.ts';
import type { TopicSettings } from '../../sources/transport.ts';
import { addConnectionOptions, openConnection } from '../connection.ts';
import { createReporter } from '../reporter.ts';
import { requiredSettings } from './settings.ts';

/** Makes the command `topics describe`. */
export function describeCommand(): Command {
  const command = new Command('describe')
    .summary('show the settings of a topic')
    .description('Shows the settings of a topic that rxgrad depends on.')
    .argument('<topic>', 'its name')
    .option('--json', 'as JSON: sizes in bytes, times in ms; null for no limit, or none known');
  addConnectionOptions(command);
  return command.action(async (topic: string, { json }: { json?: boolean }) => {
    const { transport, close } = await openConnection(command);
    try {
      const settings = await requiredSettings(transport, topic);
      const { id, partitions } = await describeTopic(transport, topic);
      if (json) console.log(JSON.stringify({ topic, id, partitions, ...settings }, null, 2));
      else createReporter(process.stdout).table(['setting', topic], rowsOf(id, partitions, settings));
    } finally {
      await close();
    }
  });
}

/** Under Kafka's names; limits that a log without brokers does not have are left out. */
function rowsOf(id: string | null, partitions: number, settings: TopicSettings): string[][] {
  const { compacted, deletes, replicas, brokers, server } = settings;
  const policy = [...(compacted ? ['compact'] : []), ...(deletes ? ['delete'] : [])].join(',') || 'none: keeps all records';
  const limit = (value: number | null, unit: string): string => (value === null ? 'no limit' : `${value} ${unit}`);
  const own = [
    ['id', id ?? 'not known'],
    ['partitions', String(partitions)],
    ['cleanup.policy', policy],
    ['max.message.bytes', limit(settings.maxMessageBytes, 'bytes')],
    ['message.timestamp.type', settings.times === 'log' ? 'LogAppendTime' : 'CreateTime'],
  ];
  if (server === null) return own;
  return [
    ...own,
    ...(deletes
      ? [
          ['retention.ms', limit(settings.retentionMs, 'ms')],
          ['retention.bytes', limit(settings.retentionBytes, 'bytes')],
        ]
      : []),
    ...(compacted
      ? [
          ['min.compaction.lag.ms', limit(settings.minCompactionLagMs, 'ms')],
          ['max.compaction.lag.ms', limit(settings.maxCompactionLagMs, 'ms')],
          ['delete.retention.ms', limit(settings.deleteRetentionMs, 'ms')],
        ]
      : []),
    ['replication factor', [...new Set(replicas.map(({ length }) => length))].sort((a, b) => a - b).join(', ')],
    ['brokers', brokers.join(', ')],
    ['min.insync.replicas', String(settings.minInSyncReplicas ?? 'not known')],
    ['unclean.leader.election.enable', String(settings.uncleanLeaders)],
  ];
}
