import { RxgradError } from '../errors.ts';
import { Consumptions } from './consumptions.ts';
import { requireTopicId } from './describe-topic.ts';
import { consumeLog, type ReadableLog } from './log-consumption.ts';
import { type Append, LogFile } from './log-file.ts';
import { LogWrites } from './log-writes.ts';
import { closedTransport, requireKeys, requirePartitionCount, requirePartitions } from './topic-bounds.ts';
import { settingsWithoutBrokers } from './topic-settings.ts';
import type { NewRecord, Position, Transport } from './transport.ts';

export interface EmbeddedLogOptions {
  /**
   * What `produce` waits for. `'full'`: the disk has the records, which so survive a loss of power. `'normal'`: the
   * operating system has them; they survive the end of the process, also by `kill -9`, but the last ones before a loss of
   * power may be missing (the log stays sound). Default `'full'`.
   */
  readonly synchronous?: 'full' | 'normal';
  /** How often a consumer looks for records of other processes. Those of other threads announce themselves. Default 5. */
  readonly pollIntervalMs?: number;
  /** How long a write waits while another process holds the write lock; then it fails. Told by a warning after 5 s. Default 60 s. */
  readonly lockTimeoutMs?: number;
}

const mostPartitions = 1024;
// SQLite's limit for a row is 1,000,000,000 bytes, with its key and headers.
const mostValueBytes = 900_000_000;

interface Waiting extends Append {
  readonly resolve: (positions: Position[]) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Opens a durable log in a single file (SQLite, with its `-wal` and `-shm` beside it) and makes it where there is none.
 * Threads and processes may have it open at once, each by its own call. Every consumer gets all partitions, so a group is
 * one consumer at a time. Calls of `produce` made in the same turn of the event loop share a transaction.
 *
 * @example
 * const transport = embeddedLog('gradients.log');
 * await transport.createTopic('gradients', { partitions: 2 });
 * await transport.produce('gradients', [{ value: new Uint8Array([1]), partition: 1 }]);
 */
export function embeddedLog(
  path: string,
  { synchronous = 'full', pollIntervalMs = 5, lockTimeoutMs = 60_000 }: EmbeddedLogOptions = {},
): Transport {
  if (synchronous !== 'full' && synchronous !== 'normal') {
    throw new RxgradError('invalidOption', { option: 'synchronous', expected: '"full" or "normal"', got: String(synchronous) });
  }
  if (!(pollIntervalMs >= 1)) {
    throw new RxgradError('invalidOption', { option: 'pollIntervalMs', expected: 'a number from 1', got: pollIntervalMs });
  }
  if (!(lockTimeoutMs >= 0)) {
    throw new RxgradError('invalidOption', { option: 'lockTimeoutMs', expected: 'a number from 0', got: lockTimeoutMs });
  }
  const file = new LogFile(path, synchronous);
  const writes = new LogWrites(file.name, lockTimeoutMs);
  const consumptions = new Consumptions();
  const appends = appendSignal(file, pollIntervalMs);
  let waiting: Waiting[] = [];

  const log: ReadableLog = {
    bounds: (topic) => file.bounds(topic),
    read: (topic, partition, offset) => file.read(topic, partition, offset),
    acknowledged: (group, topic) => file.acknowledged(group, topic),
    acknowledge: (group, topic, next) => writes.run(() => file.acknowledge(group, topic, next)),
    onAppend: appends.listen,
  };

  function flush(): Promise<void> {
    const appending = waiting;
    waiting = [];
    if (appending.length === 0) return writes.run(() => {});
    return writes
      .run(() => file.append(appending))
      .then(
        (positions) => {
          for (const [i, { resolve }] of appending.entries()) resolve(positions[i]!);
          appends.announce();
        },
        (error: unknown) => {
          for (const { reject } of appending) reject(error);
        },
      );
  }

  function requireRecords(topic: string, records: readonly NewRecord[]): void {
    requirePartitions(topic, file.partitionCount(topic), records);
    requireSizes(topic, records);
    if (file.isCompacted(topic)) requireKeys(topic, records);
  }

  return {
    name: file.name,
    async createTopic(topic, { partitions = 1, compacted = false } = {}) {
      const count = requirePartitionCount(partitions, mostPartitions);
      await writes.run(() => file.createTopic(topic, count, compacted));
    },
    async produce(topic, records) {
      requireRecords(topic, records);
      if (records.length === 0) return [];
      if (waiting.length === 0) setImmediate(flush);
      return new Promise((resolve, reject) => waiting.push({ topic, records, resolve, reject }));
    },
    async writer(id) {
      const epoch = await writes.run(() => file.openWriter(id));
      let open = true;
      return {
        async write(records) {
          if (!open) throw closedTransport(`${file.name}, writer "${id}"`);
          for (const [topic, own] of Map.groupBy(records, (record) => record.topic)) requireRecords(topic, own);
          // What was handed to `produce` before comes before.
          void flush();
          const own = records.map((record) => ({ topic: record.topic, records: [record] }));
          const positions = await writes.run(() => file.append(own, epoch));
          if (records.length > 0) appends.announce();
          return positions.flat();
        },
        async close() {
          open = false;
        },
      };
    },
    async consume(options) {
      requireTopicId(options.topic, options.topicId, file.topicId(options.topic));
      return consumptions.add(consumeLog(log, options), options);
    },
    async endOffsets(topic) {
      return file.bounds(topic).map(({ end }) => end);
    },
    async startOffsets(topic) {
      return file.bounds(topic).map(({ first }) => first);
    },
    async describeTopic(topic) {
      return { id: file.topicId(topic), partitions: file.partitionCount(topic) };
    },
    async topicSettings(topic) {
      return settingsWithoutBrokers({ compacted: file.isCompacted(topic), maxMessageBytes: mostValueBytes });
    },
    async recordAt(topic, partition, offset) {
      return file.read(topic, partition, offset)[0] ?? null;
    },
    async close() {
      try {
        await consumptions.stop();
      } finally {
        await flush();
        // What could not be written is told; the file is let go all the same.
        appends.close();
        file.close();
      }
    },
  };
}

/** Tells listeners that the file has grown: at once within the process, by looking at its version for other processes. */
function appendSignal(file: LogFile, pollIntervalMs: number) {
  const listeners = new Set<() => void>();
  const notify = (): void => {
    for (const listener of listeners) listener();
  };
  const otherConnections = new BroadcastChannel(`rxgrad:sources:${file.path}`);
  otherConnections.onmessage = notify;
  otherConnections.unref();
  let polling: NodeJS.Timeout | undefined;
  let version = file.dataVersion();

  function poll(): void {
    const current = versionOr(file, version + 1);
    if (current === version) return;
    version = current;
    notify();
  }

  return {
    announce(): void {
      notify();
      otherConnections.postMessage(null);
    },
    listen(callback: () => void): () => void {
      listeners.add(callback);
      polling ??= setInterval(poll, pollIntervalMs);
      return () => {
        listeners.delete(callback);
        if (listeners.size > 0) return;
        clearInterval(polling);
        polling = undefined;
      };
    },
    close(): void {
      clearInterval(polling);
      otherConnections.close();
    },
  };
}

/** A file that cannot be looked at wakes its consumers, whose own reads then tell why. */
function versionOr(file: LogFile, fallback: number): number {
  try {
    return file.dataVersion();
  } catch {
    return fallback;
  }
}

function requireSizes(topic: string, records: readonly NewRecord[]): void {
  for (const { value } of records) {
    if (value && value.length > mostValueBytes) {
      throw new RxgradError('oversizedRecord', { where: topic, expected: mostValueBytes, got: value.length });
    }
  }
}
