import { RxgradError } from '../../errors.ts';
import { closedTransport } from '../topic-bounds.ts';
import type { NewRecord, Position } from '../transport.ts';
import { AppendLane, type AppendLaneContext } from './append-lane.ts';
import type { Cluster } from './kafka-cluster.ts';
import { isTooLarge, kafkaError } from './kafka-error.ts';
import { batchBytes, type SizedMessage, sizedMessage } from './kafka-message.ts';
import { ProduceRequests } from './produce-requests.ts';

export interface KafkaAppenderContext {
  /** Of the transport. */
  readonly name: string;
  /** Of this topic alone: what becomes of others must not fail it. */
  readonly cluster: Cluster;
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

/** What waits for one partition. */
interface Queue {
  readonly partition: number;
  readonly lane: AppendLane;
  pending: Pending[];
}

/**
 * Appends to one topic: partitions side by side, each one batch at a time, since the order of two that are under way would be lost with
 * the first. Calls made meanwhile share the next batch.
 */
export class KafkaAppender {
  readonly #topic: string;
  readonly #context: KafkaAppenderContext;
  readonly #lanes: AppendLaneContext;
  readonly #queues = new Map<number, Queue>();
  readonly #sending = new Set<Promise<void>>();
  #closing = false;

  constructor(context: KafkaAppenderContext, topic: string) {
    const { name, cluster, reconnectForMs } = context;
    this.#topic = topic;
    this.#context = context;
    this.#lanes = { name, reconnectForMs, requests: new ProduceRequests(topic, cluster), isClosing: () => this.#closing };
  }

  /** Resolves to the position of each record once all of them are durable. */
  append(records: readonly NewRecord[]): Promise<Position[]> {
    if (this.#closing) return Promise.reject(closedTransport(this.#context.name));
    return new Promise((resolve, reject) => {
      const call: Call = { positions: new Array(records.length), left: records.length, failed: false, resolve, reject };
      for (const [index, record] of records.entries()) this.#push({ call, index, ...sizedMessage(record) });
    });
  }

  /** Ends when what is being sent was answered. What waits behind it fails. */
  async close(): Promise<void> {
    this.#closing = true;
    await Promise.all(this.#sending);
    await this.#context.cluster.disconnect();
  }

  #push(pending: Pending): void {
    const { partition } = pending;
    let queue = this.#queues.get(partition);
    if (!queue) {
      queue = { partition, lane: new AppendLane(partition, this.#lanes), pending: [] };
      this.#queues.set(partition, queue);
    }
    queue.pending.push(pending);
    if (queue.pending.length > 1) return;
    const sending: Promise<void> = this.#sendAll(queue).finally(() => this.#sending.delete(sending));
    this.#sending.add(sending);
  }

  async #sendAll(queue: Queue): Promise<void> {
    // Calls of the same turn of the event loop go together.
    await Promise.resolve();
    while (queue.pending.length > 0) {
      const batch = queue.pending.slice(0, batchLength(queue.pending));
      await this.#send(queue, batch);
      // What is left of a call that failed stays out: its records would have a gap before them.
      queue.pending = queue.pending.slice(batch.length).filter(({ call }) => !call.failed);
    }
  }

  async #send({ partition, lane }: Queue, batch: readonly Pending[]): Promise<void> {
    try {
      if (this.#closing) throw closedTransport(this.#context.name);
      const baseOffset = await lane.append(batch.map(({ message }) => message));
      for (const [i, pending] of batch.entries()) settle(pending, { topic: this.#topic, partition, offset: baseOffset + i });
    } catch (error) {
      if (isTooLarge(error) && batch.length > 1) {
        // The topic takes less than its default: one by one, so that only what is too large fails.
        for (const pending of batch) if (!pending.call.failed) await this.#send({ partition, lane, pending: [] }, [pending]);
        return;
      }
      const reason = await this.#reasonOf(error, batch[0]!);
      for (const { call } of batch) {
        call.failed = true;
        call.reject(reason);
      }
    }
  }

  async #reasonOf(error: unknown, { bytes }: Pending): Promise<Error> {
    if (!isTooLarge(error)) return kafkaError(this.#context.name, error, this.#topic);
    const expected = await this.#context.mostBytes(this.#topic);
    return new RxgradError('oversizedRecord', { where: this.#topic, expected, got: bytes }, { cause: error });
  }
}

function settle({ call, index }: Pending, position: Position): void {
  call.positions[index] = position;
  call.left--;
  if (call.left === 0) call.resolve(call.positions);
}

/** How many records from the front go into one batch, at least one. */
function batchLength(pending: readonly Pending[]): number {
  let total = 0;
  for (const [i, { bytes }] of pending.entries()) {
    total += bytes;
    if (i > 0 && total > batchBytes) return i;
  }
  return pending.length;
}
