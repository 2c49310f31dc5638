import { setTimeout as delay } from 'node:timers/promises';
import type { Producer } from 'kafkajs';
import { RxgradError } from '../../errors.ts';
import type { NewRecord, Position } from '../transport.ts';
import { isFinal, isPassing, isTooLarge, kafkaError } from './kafka-error.ts';
import { batchBytes, type SizedMessage, sizedMessage } from './kafka-message.ts';

export interface KafkaAppenderContext {
  readonly name: string;
  readonly producer: () => Promise<Producer>;
  /** How long brokers may be out of reach before an append fails. */
  readonly reconnectForMs: number;
  /** The largest record batch that the topic takes, where that can be known. */
  readonly mostBytes: (topic: string) => Promise<number | string>;
}

interface Call {
  readonly positions: Position[];
  left: number;
  failed: boolean;
  readonly resolve: (positions: Position[]) => void;
  readonly reject: (error: unknown) => void;
}

interface Pending extends SizedMessage {
  readonly call: Call;
  readonly index: number;
}

const requestBytes = 8_000_000;
const retryDelayMs = 200;

/**
 * Appends to one topic, one request at a time: with two in flight, a retry of the first would come behind the second. Calls
 * made meanwhile share the next request.
 */
export function kafkaAppender(context: KafkaAppenderContext, topic: string) {
  let queue: Pending[] = [];
  let sending: Promise<void> | null = null;

  async function sendAll(): Promise<void> {
    // Calls of the same turn of the event loop go together.
    await Promise.resolve();
    while (queue.length > 0) {
      const count = requestLength(queue);
      await send(queue.splice(0, count));
      // What is left of a call that failed stays out: its records would have a gap before them.
      queue = queue.filter(({ call }) => !call.failed);
    }
    sending = null;
  }

  async function send(request: readonly Pending[]): Promise<void> {
    try {
      settle(request, await acknowledgedOffsets(request));
    } catch (error) {
      if (isTooLarge(error) && request.length > 1) {
        // The topic takes less than its default: one by one, so that only what is too large fails.
        for (const pending of request) if (!pending.call.failed) await send([pending]);
        return;
      }
      const reason = await reasonOf(error, request);
      for (const { call } of request) {
        call.failed = true;
        call.reject(reason);
      }
    }
  }

  function settle(request: readonly Pending[], next: Map<number, number>): void {
    for (const { call, index, partition } of request) {
      const offset = next.get(partition)!;
      next.set(partition, offset + 1);
      call.positions[index] = { topic, partition, offset };
      call.left--;
      if (call.left === 0) call.resolve(call.positions);
    }
  }

  async function reasonOf(error: unknown, request: readonly Pending[]): Promise<Error> {
    if (!isTooLarge(error)) return kafkaError(context.name, error, topic);
    const expected = await context.mostBytes(topic);
    return new RxgradError('oversizedRecord', { where: topic, expected, got: request[0]!.bytes }, { cause: error });
  }

  /** Sends until the brokers have it, and resolves to the first offset of each partition. */
  async function acknowledgedOffsets(request: readonly Pending[]): Promise<Map<number, number>> {
    const giveUpAtMs = Date.now() + context.reconnectForMs;
    const messages = request.map(({ message }) => message);
    for (;;) {
      try {
        const producer = await context.producer();
        const metadata = await producer.send({ topic, acks: -1, messages });
        return new Map(metadata.map(({ partition, baseOffset }) => [partition, Number(baseOffset)]));
      } catch (error) {
        if (isFinal(error) || !isPassing(error) || Date.now() > giveUpAtMs) throw error;
        await delay(retryDelayMs);
      }
    }
  }

  return {
    append(records: readonly NewRecord[]): Promise<Position[]> {
      return new Promise((resolve, reject) => {
        const call: Call = { positions: new Array(records.length), left: records.length, failed: false, resolve, reject };
        for (const [index, record] of records.entries()) queue.push({ call, index, ...sizedMessage(record) });
        sending ??= sendAll();
      });
    },
    async idle(): Promise<void> {
      await sending;
    },
  };
}

/** How many records from the front go into one request, at least one. */
function requestLength(queue: readonly Pending[]): number {
  const bytesOf = new Map<number, number>();
  let total = 0;
  for (const [i, { partition, bytes }] of queue.entries()) {
    const batch = (bytesOf.get(partition) ?? 0) + bytes;
    total += bytes;
    if (i > 0 && (batch > batchBytes || total > requestBytes)) return i;
    bytesOf.set(partition, batch);
  }
  return queue.length;
}
