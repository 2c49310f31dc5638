import { setTimeout as delay } from 'node:timers/promises';
import kafkajs, { type Producer, type Transaction } from 'kafkajs';
import { isRxgradError, RxgradError } from '../../errors.ts';
import { closedTransport, fencedWriter } from '../topic-bounds.ts';
import type { Position, TopicRecord, TransactionalWriter } from '../transport.ts';
import { kafkaClient } from './kafka-client.ts';
import type { Cluster } from './kafka-cluster.ts';
import { isConcurrent, isFenced, isFinal, isPassing, isTooLarge, isUnknownTopic, kafkaError } from './kafka-error.ts';
import { batchBytes, type SizedMessage, sizedMessage } from './kafka-message.ts';
import type { KafkaSettings } from './kafka-options.ts';
import { lastingTransactions } from './transaction-coordinator.ts';

export interface KafkaWriterContext {
  readonly name: string;
  readonly settings: KafkaSettings;
  /** The largest record batch that a topic takes, where that can be known. */
  readonly mostBytes: (topic: string) => Promise<number | string>;
  /** Refuses what no topic could take. */
  readonly requireRecords: (topic: string, records: readonly TopicRecord[]) => Promise<void>;
}

interface Entry extends SizedMessage {
  readonly topic: string;
  readonly index: number;
}

const transactionTimeoutMs = 60_000;
const retryDelayMs = 200;
const concurrentDelayMs = 20;

/** Opens a transactional producer: brokers then refuse the one that had its id. */
export async function kafkaWriter(context: KafkaWriterContext, id: string): Promise<TransactionalWriter> {
  const writer = `${context.name}, writer "${id}"`;
  let unauthorized = false;
  let cluster: Cluster | null = null;
  const kafka = kafkaClient(context.settings, {
    onCluster(made) {
      cluster = made;
      lastingTransactions(made, context.settings);
    },
    onLog({ log }) {
      // kafkajs then finds no coordinator, which may pass, and says why nowhere but here (2.2.4).
      unauthorized ||= String(log.error).startsWith('Transactional Id authorization failed');
    },
  });
  const producer = kafka.producer({
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
    allowAutoTopicCreation: false,
    maxInFlightRequests: 1,
    idempotent: true,
    transactionalId: id,
    transactionTimeout: transactionTimeoutMs,
    // Those of the client; the loops here go on for as long as they should.
    retry: { retries: 2 },
  });
  let calls: Promise<unknown> = Promise.resolve();
  let closing: Promise<void> | null = null;
  let refusal: RxgradError | null = null;

  async function write(records: readonly TopicRecord[]): Promise<Position[]> {
    if (refusal) throw refusal;
    for (const [topic, own] of Map.groupBy(records, (record) => record.topic)) await context.requireRecords(topic, own);
    if (records.length === 0) return [];
    const transaction = await producer.transaction();
    const positions: Position[] = new Array(records.length);
    try {
      for (const batch of batches(records)) await send(transaction, batch, positions);
    } catch (error) {
      throw await giveUp(transaction, error);
    }
    await transaction.commit().catch((error) => {
      throw broken(error, 'no broker told what became of a transaction');
    });
    return positions;
  }

  /**
   * Sends one batch to one partition. A request holds no other: of one that fails for a part, kafkajs forgets that the rest
   * was appended, and brokers take the next records for a repetition.
   */
  async function send(transaction: Transaction, batch: readonly Entry[], positions: Position[]): Promise<void> {
    const [{ topic, partition }] = batch as [Entry];
    try {
      const messages = batch.map(({ message }) => message);
      const [answer] = await lasting(() => transaction.send({ topic, acks: -1, messages }), topic);
      const first = Number(answer?.baseOffset ?? -1);
      if (first < 0) throw new Error(`the broker tells no offset of partition ${partition} of ${topic}`);
      for (const [i, { index }] of batch.entries()) positions[index] = { topic, partition, offset: first + i };
    } catch (error) {
      if (isUnknownTopic(error)) throw kafkaError(context.name, error, topic);
      if (!isTooLarge(error)) throw error;
      if (batch.length === 1) {
        const expected = await context.mostBytes(topic);
        throw new RxgradError('oversizedRecord', { where: topic, expected, got: batch[0]!.bytes }, { cause: error });
      }
      // The topic takes less than its default.
      for (const entry of batch) await send(transaction, [entry], positions);
    }
  }

  /** Repeats a request until a broker answers it: it has the same sequence number, so brokers append it once. */
  async function lasting<T>(request: () => Promise<T>, topic?: string): Promise<T> {
    const giveUpAtMs = Date.now() + context.settings.reconnectForMs;
    let restarts = false;
    for (;;) {
      try {
        return await request();
      } catch (error) {
        if (unauthorized) throw idRefused(writer);
        restarts ||= isPassing(error);
        // A broker that has just started may not know its topics yet.
        const repeated = isPassing(error) || isConcurrent(error) || (isUnknownTopic(error) && (restarts || forgetsOthers(topic)));
        const { ended } = context.settings.connections;
        if (ended || isFinal(error) || !repeated || Date.now() > giveUpAtMs) throw error;
        await delay(isConcurrent(error) ? concurrentDelayMs : retryDelayMs);
      }
    }
  }

  /** A topic is asked for together with those that were written to before, some of which may be gone. False where there were none. */
  function forgetsOthers(topic: string | undefined): boolean {
    const { targetTopics } = cluster!;
    const others = [...targetTopics].filter((other) => other !== topic);
    for (const other of others) targetTopics.delete(other);
    return others.length > 0;
  }

  /** Aborts, and gives back why. Where no broker said that it refused the records, this writer cannot go on. */
  async function giveUp(transaction: Transaction, error: unknown): Promise<Error> {
    if (isFenced(error)) return broken(error, '');
    try {
      await transaction.abort();
    } catch (failure) {
      return broken(failure, 'a transaction could not be aborted');
    }
    if (isPassing(error)) return broken(error, 'no broker took the records');
    return isRxgradError(error) ? error : kafkaError(writer, error);
  }

  function broken(error: unknown, problem: string): RxgradError {
    const advice = 'Open the writer again, then read the log: it holds all records of the transaction, or none';
    refusal = isFenced(error)
      ? fencedWriter(context.name, id, error)
      : new RxgradError(
          'transportFailed',
          { transport: writer, problem: `${problem} (${messageOf(error)})`, advice },
          { cause: error },
        );
    return refusal;
  }

  await open(producer, lasting).catch(async (error) => {
    await producer.disconnect().catch(() => undefined);
    throw kafkaError(writer, error);
  });

  return {
    write(records) {
      if (closing) return Promise.reject(closedTransport(writer));
      const call = calls.then(() => write(records));
      calls = call.catch(() => undefined);
      return call;
    },
    close() {
      closing ??= calls.then(() => producer.disconnect()).catch(() => undefined);
      return closing;
    },
  };
}

/** Takes the id: whatever transaction it had open ends. */
async function open(producer: Producer, lasting: <T>(request: () => Promise<T>) => Promise<T>): Promise<void> {
  await lasting(() => producer.connect());
  const transaction = await lasting(() => producer.transaction());
  await transaction.abort();
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function idRefused(transport: string): RxgradError {
  const problem = 'not authorized to use this transactional id';
  return new RxgradError('transportFailed', { transport, problem, advice: "Give this client's user the right to write to it" });
}

/** Cuts a transaction into batches of one partition each, with the records of a partition in order. */
function batches(records: readonly TopicRecord[]): Entry[][] {
  const all: Entry[][] = [];
  const last = new Map<string, { batch: Entry[]; bytes: number }>();
  for (const [index, record] of records.entries()) {
    const entry = { topic: record.topic, index, ...sizedMessage(record) };
    const place = `${entry.partition} ${entry.topic}`;
    let current = last.get(place);
    if (!current || current.bytes + entry.bytes > batchBytes) {
      current = { batch: [], bytes: 0 };
      last.set(place, current);
      all.push(current.batch);
    }
    current.batch.push(entry);
    current.bytes += entry.bytes;
  }
  return all;
}
