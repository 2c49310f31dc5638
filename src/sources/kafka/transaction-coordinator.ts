import { setTimeout as delay } from 'node:timers/promises';
import type { Cluster } from './kafka-cluster.ts';
import { isConcurrent, isPassing, isUnreachable } from './kafka-error.ts';
import type { KafkaSettings } from './kafka-options.ts';

interface Coordinator {
  addPartitionsToTxn(request: object): Promise<unknown>;
  endTxn(request: object): Promise<unknown>;
}

const retryDelayMs = 200;
// Marks of the transaction before are being written: a matter of milliseconds.
const concurrentDelayMs = 5;

/**
 * Lets the transactions of a cluster outlast its brokers' restarts. kafkajs 2.2.4 asks once for the end of a transaction, and
 * cannot be used any more when there is no answer; to begin anew would take the id away from whoever has it by then. Asking
 * again under the same epoch is safe: the coordinator answers what became of the transaction, or that the id has another owner.
 */
export function lastingTransactions(
  cluster: Cluster,
  { reconnectForMs, connections }: Pick<KafkaSettings, 'reconnectForMs' | 'connections'>,
): void {
  const find = cluster.findGroupCoordinator.bind(cluster) as (question: object) => Promise<Coordinator>;

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
        const over = connections.ended || Date.now() > giveUpAtMs;
        if (over || !(isConcurrent(error) || isRepeated(error))) throw error;
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
}
