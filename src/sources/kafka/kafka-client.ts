import { channel } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';
import kafkajs, { type Kafka, type LogEntry } from 'kafkajs';
import { limitAnswers } from './answer-limits.ts';
import { limitDecoding } from './decoding-limits.ts';
import { type Cluster, onCluster } from './kafka-cluster.ts';
import type { KafkaSettings } from './kafka-options.ts';
import { readingSockets } from './reading-socket.ts';
import { authentication } from './sasl.ts';

const logChannel = channel('rxgrad:sources:log');

/** What one fetch asks for. Brokers send more only where a single batch of records is larger. */
export const fetchBytes = { maxBytesPerPartition: 8 * 2 ** 20, maxBytes: 64 * 2 ** 20, minBytes: 1 };
/** New partitions are seen after this time at most. */
export const metadataMaxAgeMs = 5000;
const answerOverheadBytes = 16 * 2 ** 20;

/** What one client does beside connecting. */
export interface KafkaClientBehaviour {
  /** Attempts after the first, a second apart at most. Default 2. */
  readonly retries?: number;
  readonly onLog?: (entry: LogEntry) => void;
  /** Is told of a connection's error at once: kafkajs tries again first, whatever it is. */
  readonly onSocketError?: (error: Error) => void;
  /** Is told of every connection that is begun. */
  readonly onSocket?: (socket: Socket) => void;
  /** Is given what each producer, consumer or admin of this client reaches its brokers by, as it is made. */
  readonly onCluster?: (cluster: Cluster) => void;
}

/** Makes a kafkajs client. One for each consumption: clients share what they know of a group's offsets. */
export function kafkaClient(
  { brokers, clientId, tls, sasl, connectTimeoutMs, maxRecordBytes, connections, silent }: KafkaSettings,
  { retries = 2, onLog, onSocketError, onSocket, onCluster: take }: KafkaClientBehaviour = {},
): Kafka {
  const mostBytes = Math.max(fetchBytes.maxBytes, maxRecordBytes) + answerOverheadBytes;
  limitDecoding(mostBytes);
  const begun = (socket: Socket): void => {
    connections.add(socket);
    onSocket?.(socket);
  };
  const kafka = new kafkajs.Kafka({
    brokers: [...brokers],
    clientId,
    ...(tls ? { ssl: tls } : {}),
    ...(sasl ? { sasl: authentication(sasl) } : {}),
    connectionTimeout: connectTimeoutMs,
    authenticationTimeout: 10_000,
    retry: { retries, initialRetryTime: 100, maxRetryTime: 1000, factor: 0.2, multiplier: 2 },
    socketFactory: readingSockets(mostBytes, onSocketError, begun),
    logLevel: kafkajs.logLevel.WARN,
    logCreator: () => (entry) => {
      onLog?.(entry);
      if (logChannel.hasSubscribers) logChannel.publish(entry);
    },
  });
  return onCluster(kafka, metadataMaxAgeMs, (cluster) => {
    limitAnswers(cluster, silent);
    take?.(cluster);
  });
}
