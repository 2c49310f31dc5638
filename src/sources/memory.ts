import { RxgradError } from '../errors.ts';
import { consumeLog, type ReadableLog } from './log-consumption.ts';
import { closedTransport, requirePartitionCount, requirePartitions } from './topic-bounds.ts';
import type { Consumption, HeaderValue, LogRecord, NewRecord, Position, Transport } from './transport.ts';

const name = 'Memory transport';
const mostPartitions = 1024;
const recordsPerDelivery = 1000;

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
  const topics = new Map<string, LogRecord[][]>();
  const groups = new Map<string, Map<number, number>>();
  const listeners = new Set<() => void>();
  const consumptions = new Set<Consumption>();
  let closed = false;

  function partitionsOf(topic: string): LogRecord[][] {
    if (closed) throw closedTransport(name);
    const partitions = topics.get(topic);
    if (!partitions) throw new RxgradError('unknownTopic', { transport: name, topic });
    return partitions;
  }

  const log: ReadableLog = {
    bounds: (topic) => partitionsOf(topic).map(({ length }) => ({ first: 0, end: length })),
    read: (topic, partition, offset) => partitionsOf(topic)[partition]!.slice(offset, offset + recordsPerDelivery),
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

  return {
    name,
    async createTopic(topic, { partitions = 1 } = {}) {
      if (closed) throw closedTransport(name);
      const count = requirePartitionCount(partitions, mostPartitions);
      if (!topics.has(topic))
        topics.set(
          topic,
          Array.from({ length: count }, () => []),
        );
    },
    async produce(topic, records) {
      const partitions = partitionsOf(topic);
      requirePartitions(topic, partitions.length, records);
      const timestampMs = Date.now();
      const positions = records.map((record): Position => {
        const partition = record.partition ?? 0;
        const held = partitions[partition]!;
        held.push(heldRecord(record, held.length, timestampMs));
        return { topic, partition, offset: held.length - 1 };
      });
      if (records.length > 0) for (const listener of listeners) listener();
      return positions;
    },
    async consume(options) {
      partitionsOf(options.topic);
      const consumption = consumeLog(log, options);
      consumptions.add(consumption);
      return {
        ...consumption,
        stop: () => consumption.stop().finally(() => consumptions.delete(consumption)),
      };
    },
    async endOffsets(topic) {
      return log.bounds(topic).map(({ end }) => end);
    },
    async startOffsets(topic) {
      return log.bounds(topic).map(({ first }) => first);
    },
    async close() {
      await Promise.all([...consumptions].map((consumption) => consumption.stop()));
      closed = true;
      topics.clear();
    },
  };
}

/** Copies what a producer may go on writing to. */
function heldRecord({ key, value, headers }: NewRecord, offset: number, timestampMs: number): LogRecord {
  return { offset, key: copyOf(key), value: copyOf(value), headers: copiedHeaders(headers), timestampMs };
}

function copyOf(bytes: string | Uint8Array | null | undefined): Uint8Array | null {
  if (typeof bytes === 'string') return new TextEncoder().encode(bytes);
  return bytes ? new Uint8Array(bytes) : null;
}

function copiedHeaders(headers: NewRecord['headers']): Record<string, HeaderValue> {
  const copied: Record<string, HeaderValue> = {};
  for (const header in headers) {
    const value = headers[header]!;
    copied[header] = typeof value === 'string' ? value : new Uint8Array(value);
  }
  return copied;
}

function groupKey(group: string, topic: string): string {
  return JSON.stringify([group, topic]);
}
