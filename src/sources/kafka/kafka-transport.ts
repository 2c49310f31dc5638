import { RxgradError } from '../../errors.ts';
import { Consumptions } from '../consumptions.ts';
import { closedTransport, type PartitionBounds, requirePartitions } from '../topic-bounds.ts';
import type { NewRecord, TopicDescription, TopicSettings, TransactionalWriter, Transport } from '../transport.ts';
import { createTopic } from './create-topic.ts';
import { KafkaAppender } from './kafka-appender.ts';
import { kafkaClient } from './kafka-client.ts';
import { newCluster } from './kafka-cluster.ts';
import { consumeKafka } from './kafka-consumption.ts';
import { isUnknownTopic } from './kafka-error.ts';
import { type KafkaTransportOptions, kafkaSettings } from './kafka-options.ts';
import { kafkaWriter } from './kafka-writer.ts';
import { Questions } from './questions.ts';
import { boundsOf, describedBy, fetchRecord, knowsTopicIds, leaderOf } from './topic-requests.ts';
import { settingsOf } from './topic-settings.ts';

/**
 * Makes a transport over Apache Kafka (or what speaks its protocol), through kafkajs. Connects when first used. Records are
 * acknowledged by all in-sync replicas, and appended once, however often they have to be sent.
 *
 * @example
 * const transport = kafkaTransport({ brokers: ['localhost:9092'] });
 */
export function kafkaTransport(options: KafkaTransportOptions): Transport {
  const settings = kafkaSettings(options);
  const { brokers, reconnectForMs, maxRecordBytes } = settings;
  const name = `Kafka ${brokers.join(',')}`;
  const partitionCounts = new Map<string, number>();
  const appenders = new Map<string, KafkaAppender>();
  const checks = new Map<string, Promise<void>>();
  const writers = new Set<TransactionalWriter>();
  const consumptions = new Consumptions();
  const kafka = kafkaClient(settings);
  const questions = new Questions(name, settings);
  // From here on nothing is opened any more; what is open is still asked for a moment.
  let closing = false;

  /** Opens something that close() ends: what is still being opened then ends at once, since it would keep the process alive. */
  async function opened<T>(open: () => Promise<T>, end: (made: T) => Promise<void>): Promise<T> {
    if (closing) throw closedTransport(name);
    const made = await open();
    if (!closing) return made;
    await end(made);
    throw closedTransport(name);
  }

  async function partitionCount(topic: string): Promise<number> {
    const known = partitionCounts.get(topic);
    if (known !== undefined && !closing) return known;
    const { topics } = await questions.ask((admin) => admin.fetchTopicMetadata({ topics: [topic] }), topic);
    const count = topics[0]?.partitions.length ?? 0;
    partitionCounts.set(topic, count);
    return count;
  }

  async function describe(topic: string): Promise<TopicDescription> {
    const described = await questions.ask(async (_, cluster) => {
      const leader = await leaderOf(cluster, topic, 0);
      return knowsTopicIds(leader) ? describedBy(leader, topic) : null;
    }, topic);
    if (!described) partitionCounts.delete(topic);
    else partitionCounts.set(topic, described.partitions);
    return described ?? { id: null, partitions: await partitionCount(topic) };
  }

  async function bounds(topic: string): Promise<PartitionBounds[]> {
    await partitionCount(topic);
    return questions.ask((_, cluster) => boundsOf(cluster, topic), topic);
  }

  async function acknowledged(groupId: string, topic: string): Promise<ReadonlyMap<number, number>> {
    const [found] = await questions.ask((admin) => admin.fetchOffsets({ groupId, topics: [topic] }), topic);
    const known = (found?.partitions ?? []).map(({ partition, offset }) => [partition, Number(offset)] as const);
    return new Map(known.filter(([, next]) => next >= 0));
  }

  async function topicSettings(topic: string): Promise<TopicSettings | null> {
    return questions.ask((admin) => settingsOf(admin, topic, brokers.join(',')), topic);
  }

  async function mostBytes(topic: string): Promise<number | string> {
    const known = await topicSettings(topic).catch(() => null);
    return known?.maxMessageBytes ?? "the topic's max.message.bytes in";
  }

  function appenderOf(topic: string): KafkaAppender {
    if (closing) throw closedTransport(name);
    let appender = appenders.get(topic);
    if (!appender) {
      appender = new KafkaAppender({ name, cluster: newCluster(kafka), reconnectForMs, mostBytes }, topic);
      appenders.set(topic, appender);
    }
    return appender;
  }

  /** Forgets a topic that is gone: it may be made anew with other partitions. */
  async function forget(topic: string): Promise<void> {
    partitionCounts.delete(topic);
    const appender = appenders.get(topic);
    appenders.delete(topic);
    await appender?.close();
  }

  async function requireRecords(topic: string, records: readonly NewRecord[]): Promise<void> {
    let partitions = await partitionCount(topic);
    if (partitions === 0) throw new RxgradError('unknownTopic', { transport: name, topic });
    // Some may have been added since.
    if (records.some(({ partition = 0 }) => partition >= partitions)) ({ partitions } = await describe(topic));
    requirePartitions(topic, partitions, records);
    requireSizes(topic, records, maxRecordBytes);
  }

  return {
    name,
    createTopic: (topic, topicOptions) => createTopic({ name, settings, questions, bounds, describe }, topic, topicOptions),
    async produce(topic, records) {
      // In turn: the first calls wait until the number of partitions is known.
      const checked = (checks.get(topic) ?? Promise.resolve()).then(() => requireRecords(topic, records));
      checks.set(
        topic,
        checked.catch(() => undefined),
      );
      await checked;
      if (records.length === 0) return [];
      return appenderOf(topic)
        .append(records)
        .catch(async (error) => {
          if (isUnknownTopic(error)) await forget(topic);
          throw error;
        });
    },
    async writer(id) {
      await questions.reach();
      const open = () => kafkaWriter({ name, settings, mostBytes, requireRecords }, id);
      const writer = await opened(open, (made) => made.close());
      writers.add(writer);
      return { ...writer, close: () => writer.close().finally(() => writers.delete(writer)) };
    },
    async consume(consumeOptions) {
      const open = () => consumeKafka({ name, settings, bounds, acknowledged, describe }, consumeOptions);
      const consumption = await opened(open, (made) => made.stop());
      return consumptions.add(consumption, consumeOptions);
    },
    async endOffsets(topic) {
      return (await bounds(topic)).map(({ end }) => end);
    },
    async startOffsets(topic) {
      return (await bounds(topic)).map(({ first }) => first);
    },
    describeTopic: describe,
    async recordAt(topic, partition, offset) {
      return questions.ask((_, cluster) => fetchRecord(cluster, topic, partition, offset), topic);
    },
    topicSettings,
    async close() {
      closing = true;
      questions.endSoon();
      await consumptions.stop();
      await Promise.all([...writers].map((writer) => writer.close()));
      await Promise.all([...appenders.values()].map((appender) => appender.close()));
      await questions.close();
      settings.connections.end();
    },
  };
}

function requireSizes(topic: string, records: readonly NewRecord[], expected: number): void {
  for (const { value } of records) {
    if (value && value.length > expected) throw new RxgradError('oversizedRecord', { where: topic, expected, got: value.length });
  }
}
