import { setTimeout as delay } from 'node:timers/promises';
import type { Kafka } from 'kafkajs';
import { isConcurrent, isPassing, isUnreachable } from './kafka-error.ts';

interface Coordinator {
  addPartitionsToTxn(request: object): Promise<unknown>;
  endTxn(request: object): Promise<unknown>;
}

interface Cluster {
  findGroupCoordinator(question: object): Promise<Coordinator>;
  removeBroker(address: { readonly host?: string; readonly port?: number }): void;
  refreshMetadata(): Promise<void>;
}

type CreateCluster = (options: object) => Cluster;

const retryDelayMs = 200;
// Marks of the transaction before are being written: a matter of milliseconds.
const concurrentDelayMs = 5;

/**
 * Lets the transactions of a client outlast its brokers' restarts. kafkajs 2.2.4 asks once for the end of a transaction, and
 * cannot be used any more when there is no answer; to begin anew would take the id away from whoever has it by then. Asking
 * again under the same epoch is safe: the coordinator answers what became of the transaction, or that the id has another owner.
 */
export function lastingTransactions(kafka: Kafka, reconnectForMs: number): Kafka {
  const symbol = Object.getOwnPropertySymbols(kafka).find(({ description }) => description === 'private:Kafka:createCluster');
  if (!symbol) throw new Error('expected kafkajs 2.2.4');
  const internals = kafka as unknown as Record<symbol, CreateCluster>;
  const create = internals[symbol]!;
  internals[symbol] = (options) => lastingCluster(create(options), reconnectForMs);
  return kafka;
}

function lastingCluster(cluster: Cluster, reconnectForMs: number): Cluster {
  const find = cluster.findGroupCoordinator.bind(cluster);

  /** Asks the coordinator of the moment until it answers. */
  async function ask<T>(
    question: object,
    request: (coordinator: Coordinator) => Promise<T>,
    isRepeated: (error: unknown) => boolean,
  ): Promise<T> {
    const giveUpAtMs = Date.now() + reconnectForMs;
    for (;;) {
      try {
        return await request(await find(question));
      } catch (error) {
        if (!(isConcurrent(error) || isRepeated(error)) || Date.now() > giveUpAtMs) throw error;
        if (isUnreachable(error)) await forget(error);
        await delay(isConcurrent(error) ? concurrentDelayMs : retryDelayMs);
      }
    }
  }

  async function forget(error: unknown): Promise<void> {
    const { host, port } = error as { host?: string; port?: number };
    if (host !== undefined && port !== undefined) cluster.removeBroker({ host, port });
    await cluster.refreshMetadata().catch(() => undefined);
  }

  cluster.findGroupCoordinator = async (question) =>
    ({
      __proto__: await find(question),
      // Other failures are repeated with the request that needs the partitions.
      addPartitionsToTxn: (request: object) =>
        ask(
          question,
          (coordinator) => coordinator.addPartitionsToTxn(request),
          () => false,
        ),
      endTxn: (request: object) => ask(question, (coordinator) => coordinator.endTxn(request), isPassing),
    }) as unknown as Coordinator;
  return cluster;
}
