import { isRxgradError, RxgradError } from '../../errors.ts';
import { type Advice, isFinalSocketError, socketAdvice } from './socket-error.ts';

interface KafkaFailure {
  readonly name?: string;
  readonly type?: string;
  readonly code?: unknown;
  readonly message?: string;
  readonly cause?: unknown;
  readonly originalError?: unknown;
  readonly errors?: readonly unknown[];
}

// kafkajs 2.2.4 has no name for it.
const producerFenced = 90;
const outOfSequence = ['OUT_OF_ORDER_SEQUENCE_NUMBER', 'UNKNOWN_PRODUCER_ID', 'INVALID_PRODUCER_EPOCH'];
const unreachable = [
  'KafkaJSConnectionError',
  'KafkaJSConnectionClosedError',
  'KafkaJSRequestTimeoutError',
  'KafkaJSNoBrokerAvailableError',
  'KafkaJSBrokerNotFound',
  'KafkaJSLockTimeout',
  'KafkaJSGroupCoordinatorNotFound',
  'KafkaJSMetadataNotLoaded',
  'KafkaJSTopicMetadataNotLoaded',
  // Who gives tokens may be away for a while, like a broker.
  'NoToken',
];
const refused = [
  'KafkaJSSASLAuthenticationError',
  'KafkaJSUnsupportedMagicByteInMessageSet',
  'KafkaJSNotImplemented',
  'TokenRefused',
  'OversizedBatch',
  // What kafkajs cannot decode, it never will.
  'RangeError',
  'TypeError',
];
// While a broker starts, or hands over what it did.
const passing = [
  'NOT_LEADER_FOR_PARTITION',
  'LEADER_NOT_AVAILABLE',
  'REPLICA_NOT_AVAILABLE',
  'NOT_ENOUGH_REPLICAS',
  'NOT_ENOUGH_REPLICAS_AFTER_APPEND',
  'REQUEST_TIMED_OUT',
  'NETWORK_EXCEPTION',
  'FENCED_LEADER_EPOCH',
  'UNKNOWN_LEADER_EPOCH',
  'NOT_COORDINATOR_FOR_GROUP',
  'GROUP_COORDINATOR_NOT_AVAILABLE',
  'GROUP_LOAD_IN_PROGRESS',
];

/** Whether an error tells that Kafka will never accept this: waiting for a broker to come back would not help. */
export function isFinal(error: unknown): boolean {
  return isRxgradError(error) || failures(error).some(isFinalFailure);
}

export function isUnreachable(error: unknown): boolean {
  return failures(error).some(({ name = '' }) => unreachable.includes(name));
}

/** Whether the same request may succeed soon: no broker can be reached, or the one that was cannot answer yet. */
export function isPassing(error: unknown): boolean {
  return isUnreachable(error) || failures(error).some(({ type = '' }) => passing.includes(type));
}

export function isTooLarge(error: unknown): boolean {
  return failures(error).some(({ type }) => type === 'MESSAGE_TOO_LARGE' || type === 'RECORD_LIST_TOO_LARGE');
}

export function isUnknownTopic(error: unknown): boolean {
  return failures(error).some(({ type }) => type === 'UNKNOWN_TOPIC_OR_PARTITION');
}

/** Whether a broker does not know what came before in the sequence of an idempotent producer. */
export function isOutOfSequence(error: unknown): boolean {
  return failures(error).some(({ type = '' }) => outOfSequence.includes(type));
}

/** Whether the cluster gives this client no producer id: its user may write to no topic, or, before Kafka 2.8, may not be idempotent. */
export function isNoProducer(error: unknown): boolean {
  return failures(error).some(({ type }) => type === 'CLUSTER_AUTHORIZATION_FAILED');
}

/** Whether this client's user lacks a right, or the brokers do not know the question. */
export function isDenied(error: unknown): boolean {
  return failures(error).some(
    ({ name, type = '' }) => type.endsWith('AUTHORIZATION_FAILED') || name === 'KafkaJSServerDoesNotSupportApiKey',
  );
}

/** Whether the transaction before is still being ended. */
export function isConcurrent(error: unknown): boolean {
  return failures(error).some(({ type }) => type === 'CONCURRENT_TRANSACTIONS');
}

/** Whether a transactional id has another owner. */
export function isFenced(error: unknown): boolean {
  return failures(error).some(({ type, code }) => type === 'INVALID_PRODUCER_EPOCH' || code === producerFenced);
}

/** Turns what kafkajs threw into one error that says what to do. */
export function kafkaError(transport: string, error: unknown, topic?: string): RxgradError {
  if (isRxgradError(error)) return error;
  if (topic !== undefined && isUnknownTopic(error))
    return new RxgradError('unknownTopic', { transport, topic }, { cause: error });
  const [problem, advice] = diagnosis(error, topic);
  return new RxgradError('transportFailed', { transport, problem, advice }, { cause: error });
}

function diagnosis(error: unknown, named: string | undefined): Advice {
  const topic = named ?? 'a topic';
  const chain = failures(error);
  const message = chain.at(-1)?.message ?? String(error);
  const atSocket = chain.map(socketAdvice).find((advice) => advice !== null);
  if (atSocket) return atSocket;
  if (chain.some(isRefusal))
    return ['the broker refused the credentials', 'Check sasl (mechanism, username, password or token) and ssl'];
  if (chain.some(({ type = '' }) => type.includes('SASL')))
    return [message, 'Check sasl and ssl: does the broker want this mechanism?'];
  if (chain.some(({ type = '' }) => type.endsWith('AUTHORIZATION_FAILED'))) {
    const isOfTopic = named !== undefined && chain.some(({ type }) => type === 'TOPIC_AUTHORIZATION_FAILED');
    return [isOfTopic ? `not authorized for topic "${named}"` : message, "Give this client's user the right to do so"];
  }
  if (chain.some(({ name }) => name === 'NoToken')) return [message, 'Check the function that gives the token'];
  if (chain.some(({ name }) => name === 'OversizedBatch')) {
    return [`${message} (${topic})`, 'See who writes to the topic, and begin behind it; or raise maxRecordBytes'];
  }
  if (isUnreachable(error))
    return [`no broker can be reached (${message})`, 'Check brokers, ssl and sasl, and that Kafka runs there'];
  return [message, "Look at the broker's log"];
}

function isRefusal({ name, type }: KafkaFailure): boolean {
  return name === 'KafkaJSSASLAuthenticationError' || name === 'TokenRefused' || type === 'SASL_AUTHENTICATION_FAILED';
}

function isFinalFailure(failure: KafkaFailure): boolean {
  const { name = '', type = '' } = failure;
  return (
    refused.includes(name) ||
    type.includes('SASL') ||
    type.endsWith('AUTHORIZATION_FAILED') ||
    type === 'INVALID_TOPIC_EXCEPTION' ||
    isFinalSocketError(failure)
  );
}

/** An error with its causes, outermost first. */
function failures(error: unknown): KafkaFailure[] {
  const chain: KafkaFailure[] = [];
  let current: unknown = error;
  while (typeof current === 'object' && current !== null && !chain.includes(current)) {
    const failure: KafkaFailure = current;
    chain.push(failure);
    current = failure.cause ?? failure.originalError ?? failure.errors?.[0];
  }
  return chain;
}
