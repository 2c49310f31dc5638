import { createRequire } from 'node:module';
import type { Socket } from 'node:net';
import type { Cluster } from './kafka-cluster.ts';

/**
 * How long a broker may be silent while it owes an answer, in milliseconds: then its connections end, what was asked fails, and other
 * brokers are asked before it until it answers again. The time does not run while bytes arrive, nor while this process is suspended.
 */
export const answerMs = 5000;
const tickMs = 500;
/** Requests that a broker answers late although it is well: what has to reach its replicas, of which one may hang, or wait for others. */
const slowAnswersMs = new Map<number, number>([
  [0, 35_000], // Produce: kafkajs lets leaders wait for 30 s.
  [11, 20_000], // JoinGroup, SyncGroup: members join within `session.rebalanceTimeout`.
  [14, 20_000],
  [19, 20_000], // CreateTopics, DeleteTopics
  [20, 20_000],
  [22, 20_000], // InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn, TxnOffsetCommit
  [24, 20_000],
  [25, 20_000],
  [26, 20_000],
  [28, 20_000],
  [37, 20_000], // CreatePartitions
]);
const apiVersions = 18;

interface SocketRequest {
  readonly entry: { readonly apiKey: number; reject(error: Error): void };
  /** The longer of what the queue and the request itself say. */
  readonly requestTimeout: number;
}

interface Connection {
  readonly host: string;
  readonly port: number;
  readonly socket?: Socket;
  /** Of a login under way. */
  readonly authHandlers: { onError(): void } | null;
  readonly requestQueue: {
    requestTimeout: number;
    requestTimeoutIntervalId?: NodeJS.Timeout;
    readonly inflight: ReadonlyMap<number, SocketRequest>;
    scheduleRequestTimeoutCheck(): void;
    destroy(): void;
  };
  isConnected(): boolean;
  rejectRequests(error: Error): void;
  disconnect(): Promise<unknown>;
}

interface PooledBroker {
  readonly connectionPool: { readonly host: string; readonly port: number };
  isConnected(): boolean;
}

interface ConnectionPool {
  readonly host: string;
  readonly port: number;
  readonly pool: readonly Connection[];
}

interface BrokerPool {
  readonly brokers: Readonly<Record<string, PooledBroker>>;
  findBroker(question: { readonly nodeId: string }): Promise<PooledBroker>;
  findConnectedBroker(): Promise<PooledBroker>;
  withBroker<T>(use: (found: { readonly nodeId: string; readonly broker: PooledBroker }) => Promise<T>): Promise<T | null>;
}

interface Internals {
  readonly connectionPoolBuilder: { build(destination?: object): Promise<ConnectionPool> };
  readonly brokerPool: BrokerPool;
}

const { KafkaJSConnectionError, KafkaJSConnectionClosedError } = createRequire(import.meta.url)('kafkajs/src/errors') as {
  KafkaJSConnectionError: new (message: string, details: object) => Error;
  KafkaJSConnectionClosedError: new (message: string, details: object) => Error;
};

/**
 * Ends what brokers of a cluster do not answer. kafkajs 2.2.4 waits for 30 s, lets the connection be, and asks the same broker again, while
 * all that has to do with other brokers waits, too; what is asked as it disconnects it waits for without a limit. `silent` holds the
 * addresses of brokers that were last heard of by their silence.
 */
export function limitAnswers(cluster: Cluster, silent: Set<string>): void {
  const { connectionPoolBuilder, brokerPool } = cluster as unknown as Internals;
  const build = connectionPoolBuilder.build.bind(connectionPoolBuilder);

  /** The next of the brokers that were named, one that answers if there is any. */
  async function buildFirst() {
    const first = await build();
    let made = first;
    while (silent.has(addressOf(made))) {
      made = await build();
      if (addressOf(made) === addressOf(first)) break;
    }
    return made;
  }

  connectionPoolBuilder.build = async (destination) => {
    const made = destination ? await build(destination) : await buildFirst();
    for (const connection of made.pool) {
      watchAnswers(connection, {
        answered: () => silent.delete(addressOf(connection)),
        silent() {
          silent.add(addressOf(connection));
          for (const each of made.pool) end(each);
        },
      });
    }
    return made;
  };

  /** All brokers, the likeliest to answer first. */
  function candidates(): string[] {
    const rank = (broker: PooledBroker): number =>
      silent.has(addressOf(broker.connectionPool)) ? 2 : broker.isConnected() ? 0 : 1;
    const ranks = Object.entries(brokerPool.brokers).map(
      ([nodeId, broker]) => [nodeId, rank(broker) + Math.random() / 2] as const,
    );
    return ranks.toSorted(([, a], [, b]) => a - b).map(([nodeId]) => nodeId);
  }

  const findConnected = brokerPool.findConnectedBroker.bind(brokerPool);
  brokerPool.findConnectedBroker = async () => {
    for (const nodeId of candidates()) {
      const broker = await brokerPool.findBroker({ nodeId }).catch(() => null);
      if (broker) return broker;
    }
    return findConnected();
  };
  brokerPool.withBroker = async (use) => {
    for (const nodeId of candidates()) {
      const found = brokerPool.findBroker({ nodeId });
      const used = await found.then((broker) => use({ nodeId, broker })).catch(() => null);
      if (used !== null) return used;
    }
    return null;
  };
}

function addressOf({ host, port }: { readonly host: string; readonly port: number }): string {
  return `${host}:${port}`;
}

/** Looks after what is owed on a connection. A broker answers in the order in which it was asked: only the first of it counts. */
function watchAnswers(connection: Connection, on: { answered(): void; silent(): void }): void {
  const queue = connection.requestQueue;
  queue.requestTimeout = answerMs;
  queue.scheduleRequestTimeoutCheck = () => {
    queue.destroy();
    let owed: object | undefined;
    let bytes = 0;
    let ticks = 0;
    queue.requestTimeoutIntervalId = setInterval(() => {
      const [first] = queue.inflight.values();
      const now = connection.authHandlers ?? first;
      const read = connection.socket?.bytesRead ?? 0;
      if (read !== bytes) on.answered();
      if (!now && !connection.isConnected()) queue.destroy();
      ticks = now && now === owed && read === bytes ? ticks + 1 : 0;
      owed = now;
      bytes = read;
      if (ticks * tickMs >= limitOf(first)) on.silent();
    }, tickMs).unref();
  };
}

function limitOf(request: SocketRequest | undefined): number {
  if (!request) return answerMs;
  const { requestTimeout, entry } = request;
  return requestTimeout > answerMs ? requestTimeout : (slowAnswersMs.get(entry.apiKey) ?? answerMs);
}

function end(connection: Connection): void {
  // One that is being made has a limit of its own: `connectTimeoutMs`.
  if (!connection.isConnected()) return;
  const { host, port, requestQueue, authHandlers, socket } = connection;
  const [first] = requestQueue.inflight.values();
  const problem = `${host}:${port} has not answered for ${limitOf(first) / 1000} s`;
  authHandlers?.onError();
  // The first request of a connection belongs to its being made: kafkajs then tries another broker.
  const isNew = first?.entry.apiKey === apiVersions;
  connection.rejectRequests(
    isNew
      ? new KafkaJSConnectionError(problem, { broker: `${host}:${port}` })
      : new KafkaJSConnectionClosedError(problem, { host, port }),
  );
  void connection.disconnect().then(() => socket?.destroy());
}
