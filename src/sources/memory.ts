import { randomUUID } from 'node:crypto';
import { RxgradError } from '../errors.ts';
import { Consumptions } from './consumptions.ts';
import { requireTopicId } from './describe-topic.ts';
import { consumeLog, type ReadableLog } from './log-consumption.ts';
import { MemoryPartition } from './memory-partition.ts';
import { closedTransport, fencedWriter, requireKeys, requirePartitionCount, requirePartitions } from './topic-bounds.ts';
import { settingsWithoutBrokers } from './topic-settings.ts';
import type { NewRecord, Position, TopicDescription, TopicRecord, Transport } from './transport.ts';

const name = 'Memory transport';
const mostPartitions = 1024;

/**
 * Makes a transport that keeps its log in this process's memory and forgets it when closed: for tests, and for pipelines
 * whose producers share the process. Every consumer gets all partitions, also within one group.
 *
 * @example
 * const transport = memoryTransport();
 * await transport.createTopic('gradients');
 * await transport.produce('gradients', [{ value: new Uint8Array([1]) }]);
 */
export function memoryTransport(): Transport {
  const topics = new Map<string, MemoryPartition[]>();
  const ids = new Map<string, string>();
  const groups = new Map<string, Map<number, number>>();
  const epochs = new Map<string, number>();
  const listeners = new Set<() => void>();
  const consumptions = new Consumptions();
  let closed = false;

  function partitionsOf(topic: string): MemoryPartition[] {
    if (closed) throw closedTransport(name);
    const partitions = topics.get(topic);
    if (!partitions) throw new RxgradError('unknownTopic', { transport: name, topic });
    return partitions;
  }

  const log: ReadableLog = {
    bounds: (topic) => partitionsOf(topic).map(({ bounds }) => bounds),
    read: (topic, partition, offset) => partitionsOf(topic)[partition]!.read(offset),
    acknowledged: (group, topic) => new Map(groups.get(groupKey(group, topic))),
    acknowledge(group, topic, next) {
      const key = groupKey(group, topic);
      groups.set(key, new Map([...(groups.get(key) ?? []), ...next]));
    },
    onAppend(callback) {
      listeners.add(callback);
      return () => listeners.delete(callback);
    },
  };

  function describe(topic: string): TopicDescription {
    return { partitions: partitionsOf(topic).length, id: ids.get(topic)! };
  }

  function requireRecords(topic: string, records: readonly NewRecord[]): void {
    const partitions = partitionsOf(topic);
    requirePartitions(topic, partitions.length, records);
    if (partitions[0]!.compacted) requireKeys(topic, records);
  }

  function append(records: readonly TopicRecord[]): Position[] {
    const timestampMs = Date.now();
    const positions = records.map((record): Position => {
      const { topic, partition = 0 } = record;
      return { topic, partition, offset: partitionsOf(topic)[partition]!.append(record, timestampMs) };
    });
    if (records.length > 0) for (const listener of listeners) listener();
    return positions;
  }

  return {
    name,
    async createTopic(topic, { partitions = 1, compacted = false } = {}) {
      if (closed) throw closedTransport(name);
      const length = requirePartitionCount(partitions, mostPartitions);
      if (topics.has(topic)) return;
      ids.set(topic, randomUUID());
      topics.set(
        topic,
        Array.from({ length }, () => new MemoryPartition(compacted)),
      );
    },
    async produce(topic, records) {
      requireRecords(topic, records);
      return append(records.map((record) => ({ ...record, topic })));
    },
    async writer(id) {
      if (closed) throw closedTransport(name);
      const epoch = (epochs.get(id) ?? 0) + 1;
      epochs.set(id, epoch);
      let open = true;
      return {
        async write(records) {
          if (closed || !open) throw closedTransport(open ? name : `${name}, writer "${id}"`);
          if (epochs.get(id) !== epoch) throw fencedWriter(name, id);
          for (const [topic, own] of Map.groupBy(records, (record) => record.topic)) requireRecords(topic, own);
          return append(records);
        },
        async close() {
          open = false;
        },
      };
    },
    async consume(options) {
      requireTopicId(options.topic, options.topicId, describe(options.topic).id);
      return consumptions.add(consumeLog(log, options), options);
    },
    async endOffsets(topic) {
      return log.bounds(topic).map(({ end }) => end);
    },
    async startOffsets(topic) {
      return log.bounds(topic).map(({ first }) => first);
    },
    async describeTopic(topic) {
      return describe(topic);
    },
    async topicSettings(topic) {
      return settingsWithoutBrokers({ compacted: partitionsOf(topic)[0]!.compacted, maxMessageBytes: null });
    },
    async recordAt(topic, partition, offset) {
      return log.read(topic, partition, offset)[0] ?? null;
    },
    async close() {
      await consumptions.stop();
      closed = true;
      topics.clear();
    },
  };
}

function groupKey(group: string, topic: string): string {
  return JSON.stringify([group, topic]);
}
