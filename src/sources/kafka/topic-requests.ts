import { createRequire } from 'node:module';
import type { PartitionBounds } from '../topic-bounds.ts';
import type { LogRecord, TopicDescription } from '../transport.ts';
import type { Broker, Cluster, Question } from './kafka-cluster.ts';
import { logRecords } from './log-records.ts';

interface Encoder {
  writeInt32(value: number): Encoder;
  writeBoolean(value: boolean): Encoder;
  writeUVarIntString(text: string): Encoder;
  writeUVarIntArray(elements: readonly Encoder[]): Encoder;
  writeUVarIntBytes(): Encoder;
}

interface Decoder {
  readInt16(): number;
  readInt32(): number;
  readBoolean(): boolean;
  readBytes(length: number): Buffer;
  readUVarIntString(): string | null;
  readUVarIntArray<T>(read: (decoder: Decoder) => T): T[];
  readTaggedFields(): void;
}

const load = createRequire(import.meta.url);
const EncoderClass: new () => Encoder = load('kafkajs/src/protocol/encoder');
const DecoderClass: new (bytes: Buffer) => Decoder = load('kafkajs/src/protocol/decoder');
const { createErrorFromCode }: { createErrorFromCode(code: number): Error } = load('kafkajs/src/protocol/error');

const metadata = { apiKey: 3, apiVersion: 10, apiName: 'Metadata' } as const;
const noId = Buffer.alloc(16);
const readCommitted = 1;
const leastBytes = 1;
const leaderNotAvailable = 5;

interface Described extends TopicDescription {
  readonly errorCode: number;
}

/** Whether a broker knows ids of topics: those of Kafka 2.8 and later do. */
export function knowsTopicIds({ versions }: Broker): boolean {
  return (versions[metadata.apiKey]?.maxVersion ?? 0) >= metadata.apiVersion;
}

/** Asks a broker what a topic is: version 10 of the request for metadata, of which kafkajs 2.2.4 speaks 6. */
export async function describedBy(broker: Broker, topic: string): Promise<TopicDescription> {
  const { id, partitions, errorCode } = await broker.connectionPool.send(descriptionOf(topic));
  if (errorCode !== 0) throw createErrorFromCode(errorCode);
  return { id, partitions };
}

function descriptionOf(topic: string): Question<Described> {
  const request = {
    ...metadata,
    encode: async () =>
      new EncoderClass()
        .writeUVarIntBytes()
        .writeUVarIntArray([withoutId(new EncoderClass()).writeUVarIntString(topic).writeUVarIntBytes()])
        // Neither topics that are made by being asked for, nor what this user may do.
        .writeBoolean(false)
        .writeBoolean(false)
        .writeBoolean(false)
        .writeUVarIntBytes(),
  };
  return { request, response: { decode: async (bytes) => decoded(new DecoderClass(bytes)), parse: async (answer) => answer } };
}

/** 16 bytes of zeros: the topic is asked for by its name. */
function withoutId(encoder: Encoder): Encoder {
  for (let i = 0; i < 4; i++) encoder.writeInt32(0);
  return encoder;
}

function decoded(answer: Decoder): Described {
  answer.readTaggedFields();
  answer.readInt32();
  answer.readUVarIntArray((broker) => {
    broker.readInt32();
    broker.readUVarIntString();
    broker.readInt32();
    broker.readUVarIntString();
    broker.readTaggedFields();
  });
  answer.readUVarIntString();
  answer.readInt32();
  const [found] = answer.readUVarIntArray((topic): Described => {
    const errorCode = topic.readInt16();
    topic.readUVarIntString();
    const id = topic.readBytes(16);
    topic.readBoolean();
    const partitions = topic.readUVarIntArray(skipPartition).length;
    topic.readInt32();
    topic.readTaggedFields();
    return { errorCode, partitions, id: id.equals(noId) ? null : id.toString('hex') };
  });
  if (!found) throw new Error('expected one topic in the answer');
  return found;
}

function skipPartition(partition: Decoder): void {
  partition.readInt16();
  for (let i = 0; i < 3; i++) partition.readInt32();
  for (let i = 0; i < 3; i++) partition.readUVarIntArray((replica) => replica.readInt32());
  partition.readTaggedFields();
}

/** The broker that leads a partition, as far as the cluster says now. */
export async function leaderOf(cluster: Cluster, topic: string, partition: number): Promise<Broker> {
  await cluster.addTargetTopic(topic);
  await cluster.refreshMetadata();
  const [nodeId] = Object.keys(cluster.findLeaderForPartitions(topic, [partition]));
  return cluster.findBroker({ nodeId: nodeId! });
}

/**
 * Asks the leaders of all partitions for what these hold, up to the first transaction that is open. kafkajs 2.2.4 does not notice that it knows
 * nothing of the topic yet, or got no answer for a partition.
 */
export async function boundsOf(cluster: Cluster, topic: string): Promise<PartitionBounds[]> {
  await cluster.addTargetTopic(topic);
  await cluster.refreshMetadataIfNecessary();
  const partitions = cluster.findTopicPartitionMetadata(topic).map(({ partitionId }) => partitionId);
  const leaders = Object.entries(cluster.findLeaderForPartitions(topic, partitions));
  const offsetsAt = async (timestamp: -1 | -2): Promise<ReadonlyMap<number, number>> => {
    const answers = await Promise.all(
      leaders.map(async ([nodeId, led]) => {
        const broker = await cluster.findBroker({ nodeId });
        return broker.listOffsets({ topics: [{ topic, partitions: led.map((partition) => ({ partition, timestamp })) }] });
      }),
    );
    const found = answers.flatMap(({ responses }) => responses.flatMap((response) => response.partitions));
    return new Map(found.map(({ partition, offset }) => [partition, Number(offset)]));
  };
  const [firsts, ends] = await Promise.all([offsetsAt(-2), offsetsAt(-1)]);
  const isWhole = partitions.every((_, partition) => firsts.has(partition) && ends.has(partition));
  if (partitions.length === 0 || !isWhole) throw createErrorFromCode(leaderNotAvailable);
  return partitions.map((_, partition) => ({ first: firsts.get(partition)!, end: ends.get(partition)! }));
}

/** Fetches the first record that is held at an offset or after it, without a group; null where none comes in the same fetch. */
export async function fetchRecord(cluster: Cluster, topic: string, partition: number, offset: number): Promise<LogRecord | null> {
  const broker = await leaderOf(cluster, topic, partition);
  const { responses } = await broker.fetch({
    topics: [{ topic, partitions: [{ partition, fetchOffset: offset, maxBytes: leastBytes }] }],
    maxWaitTime: 0,
    minBytes: 0,
    maxBytes: leastBytes,
    isolationLevel: readCommitted,
  });
  const messages = responses.flatMap(({ partitions }) => partitions.flatMap((found) => found.messages));
  return (
    logRecords(
      messages.filter(({ isControlRecord }) => !isControlRecord),
      offset,
    )[0] ?? null
  );
}
