import { RxgradError } from '../../errors.ts';
import { type PartitionBounds, requirePartitionCount } from '../topic-bounds.ts';
import type { TopicDescription, TopicOptions } from '../transport.ts';
import { isDenied, isPassing, isUnknownTopic } from './kafka-error.ts';
import type { KafkaSettings } from './kafka-options.ts';
import type { Questions } from './questions.ts';

export interface TopicCreation {
  readonly name: string;
  readonly settings: Pick<KafkaSettings, 'maxRecordBytes' | 'replicationFactor'>;
  readonly questions: Pick<Questions, 'ask' | 'created'>;
  readonly bounds: (topic: string) => Promise<PartitionBounds[]>;
  readonly describe: (topic: string) => Promise<TopicDescription>;
}

const mostPartitions = 10_000;
/**
 * Kafka compacts closed segments only, once half of the log is superseded by its default: small segments that close soon
 * keep a topic of a few keys short. Tombstones stay for a day, for consumers that were away.
 */
const compaction = {
  'cleanup.policy': 'compact',
  'segment.ms': String(10 * 60_000),
  'segment.bytes': String(128 * 2 ** 20),
  'min.cleanable.dirty.ratio': '0.1',
  'min.compaction.lag.ms': '0',
  'max.compaction.lag.ms': String(60 * 60_000),
  'delete.retention.ms': String(24 * 60 * 60_000),
};

/** Creates a topic where there is none: only then does it take the right to. Resolves when its leaders know that they are. */
export async function createTopic(
  creation: TopicCreation,
  topic: string,
  { partitions = 1, compacted = false }: TopicOptions = {},
): Promise<void> {
  const { questions, settings, bounds } = creation;
  const { maxRecordBytes, replicationFactor } = settings;
  const numPartitions = requirePartitionCount(partitions, mostPartitions);
  const configEntries = Object.entries({ 'max.message.bytes': String(maxRecordBytes), ...(compacted ? compaction : {}) }).map(
    ([configName, value]) => ({ name: configName, value }),
  );
  const topics = [{ topic, numPartitions, replicationFactor, configEntries }];
  await questions
    // Not named as what it is about: kafkajs asks for the topics that it knew first, and that this one was deleted is no reason to give up.
    .ask((admin) => admin.createTopics({ topics }))
    .catch(async (error) => {
      // Brokers look at the right first, and then whether there is anything to create.
      if (isDenied(error)) await requireExisting(creation, topic, error);
      // It was created, and the broker that was asked for its leaders does not know it yet.
      else if (!isUnknownTopic(error)) throw error;
    });
  questions.created(topic);
  // Before its leaders know that they are, they refuse what is asked of them. A user who may create a topic need not have the right to
  // ask for its offsets.
  await bounds(topic).catch((error) => {
    if (isPassing(error)) throw error;
  });
}

/** Fails for want of the right to create a topic, unless it exists. */
async function requireExisting({ name, describe }: TopicCreation, topic: string, denied: unknown): Promise<void> {
  await describe(topic).catch((error: unknown) => {
    throw isUnknownTopic(error) || isDenied(error) ? creationDenied(name, topic, denied) : error;
  });
}

function creationDenied(transport: string, topic: string, cause: unknown): RxgradError {
  const problem = `not authorized to create topic "${topic}", which does not exist or may not be seen`;
  const advice = `Give this client's user the right CREATE on topic "${topic}" or on the cluster, or create the topic beforehand and give the right DESCRIBE on it`;
  return new RxgradError('transportFailed', { transport, problem, advice }, { cause });
}
