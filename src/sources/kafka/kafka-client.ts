import { channel } from 'node:diagnostics_channel';
import type { ConnectionOptions } from 'node:tls';
import kafkajs, { type Kafka, type LogEntry, type SASLOptions } from 'kafkajs';
import { readingSockets } from './reading-socket.ts';

export interface KafkaConnectionOptions {
  /** `host:port` of one broker or more; the others are learned from them. */
  readonly brokers: readonly string[];
  /** Default `'rxgrad'`. */
  readonly clientId?: string;
  readonly ssl?: boolean | ConnectionOptions;
  readonly sasl?: SASLOptions;
  /** How long one attempt to connect may take. Default 3000. */
  readonly connectTimeoutMs?: number;
}

const logChannel = channel('rxgrad:sources:log');

/**
 * Makes a kafkajs client. One for each consumption: clients share what they know of a group's offsets. Gives up on a
 * connection after a few attempts; what must outlast a broker's restart tries again above it.
 */
export function kafkaClient(options: KafkaConnectionOptions, onLog?: (entry: LogEntry) => void): Kafka {
  const { brokers, clientId = 'rxgrad', ssl, sasl, connectTimeoutMs = 3000 } = options;
  return new kafkajs.Kafka({
    brokers: [...brokers],
    clientId,
    ...(ssl === undefined ? {} : { ssl }),
    ...(sasl === undefined ? {} : { sasl }),
    connectionTimeout: connectTimeoutMs,
    authenticationTimeout: 10_000,
    retry: { retries: 2, initialRetryTime: 100, maxRetryTime: 1000, factor: 0.2, multiplier: 2 },
    socketFactory: readingSockets(),
    logLevel: kafkajs.logLevel.WARN,
    logCreator: () => (entry) => {
      onLog?.(entry);
      if (logChannel.hasSubscribers) logChannel.publish(entry);
    },
  });
}
