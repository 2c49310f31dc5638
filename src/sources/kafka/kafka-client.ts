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

/** What one client does beside connecting. */
export interface KafkaClientBehaviour {
  /** Attempts after the first, a second apart at most. Default 2. */
  readonly retries?: number;
  readonly onLog?: (entry: LogEntry) => void;
}

/** Makes a kafkajs client. One for each consumption: clients share what they know of a group's offsets. */
export function kafkaClient(options: KafkaConnectionOptions, { retries = 2, onLog }: KafkaClientBehaviour = {}): Kafka {
  const { brokers, clientId = 'rxgrad', ssl, sasl, connectTimeoutMs = 3000 } = options;
  return new kafkajs.Kafka({
    brokers: [...brokers],
    clientId,
    ...(ssl === undefined ? {} : { ssl }),
    ...(sasl === undefined ? {} : { sasl }),
    connectionTimeout: connectTimeoutMs,
    authenticationTimeout: 10_000,
    retry: { retries, initialRetryTime: 100, maxRetryTime: 1000, factor: 0.2, multiplier: 2 },
    socketFactory: readingSockets(),
    logLevel: kafkajs.logLevel.WARN,
    logCreator: () => (entry) => {
      onLog?.(entry);
      if (logChannel.hasSubscribers) logChannel.publish(entry);
    },
  });
}
