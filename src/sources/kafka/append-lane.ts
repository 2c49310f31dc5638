import { setTimeout as delay } from 'node:timers/promises';
import type { Message } from 'kafkajs';
import { RxgradError } from '../../errors.ts';
import { closedTransport } from '../topic-bounds.ts';
import { isFinal, isNoProducer, isOutOfSequence, isPassing, isTooLarge, isUnknownTopic } from './kafka-error.ts';
import { type ProducedBatch, type ProduceRequests, type ProducerIdentity, producedBatch } from './produce-requests.ts';

export interface AppendLaneContext {
  /** Of the transport. */
  readonly name: string;
  readonly requests: ProduceRequests;
  /** How long brokers may be out of reach before an append fails. */
  readonly reconnectForMs: number;
  /** Whether the transport is being closed: nothing is repeated then. */
  readonly isClosing: () => boolean;
}

const retryDelayMs = 200;
const lastEpoch = 2 ** 15 - 1;
// Where sequence numbers begin at 0 again.
const endOfSequence = 2 ** 31;

/**
 * Appends batches to one partition, one at a time: each once, however often it has to be sent. A broker knows it by the producer's id and
 * epoch and its place in their sequence (KIP-98), and tells where it is when it comes again. Behind a batch of which nobody knows what
 * became, a new epoch begins (KIP-360): what of the old one is still under way is refused.
 */
export class AppendLane {
  readonly #partition: number;
  readonly #context: AppendLaneContext;
  #identity: ProducerIdentity | null = null;
  #sequence = 0;

  constructor(partition: number, context: AppendLaneContext) {
    this.#partition = partition;
    this.#context = context;
  }

  /** Resolves to the first record's offset once all in-sync replicas have the batch. */
  async append(messages: readonly Message[]): Promise<number> {
    const { requests, reconnectForMs } = this.#context;
    const giveUpAtMs = Date.now() + reconnectForMs;
    const attempt = { batch: null as ProducedBatch | null, maybeAppended: false, restarting: false };
    for (;;) {
      try {
        attempt.batch ??= await this.#numbered(messages);
        const baseOffset = await requests.send(attempt.batch);
        this.#sequence += messages.length;
        return baseOffset;
      } catch (error) {
        attempt.restarting ||= isPassing(error);
        attempt.maybeAppended ||= attempt.batch !== null && isPassing(error);
        // A broker that has just started may not know its topics yet.
        const passes = isPassing(error) || (attempt.restarting && isUnknownTopic(error));
        if (isOutOfSequence(error) && !attempt.maybeAppended && this.#sequence > 0) {
          // It has forgotten this producer, and appended nothing of the batch.
          this.#beginAnew();
          attempt.batch = null;
        } else if (!passes || isFinal(error) || this.#context.isClosing() || Date.now() > giveUpAtMs) {
          this.#beginAnew();
          throw this.#reason(error, passes, attempt.maybeAppended);
        } else {
          await delay(retryDelayMs);
          await requests.refresh().catch(() => undefined);
        }
      }
    }
  }

  #reason(error: unknown, passes: boolean, maybeAppended: boolean): unknown {
    const { name: transport, isClosing } = this.#context;
    if (passes && isClosing()) return closedTransport(transport);
    if (isNoProducer(error)) {
      const advice =
        "Give this client's user the right to write to the topic; before Kafka 2.8, IdempotentWrite on the cluster, too";
      return new RxgradError('transportFailed', { transport, problem: 'not authorized to append', advice }, { cause: error });
    }
    // Sent again in parts, it might be there twice.
    if (isTooLarge(error) && maybeAppended)
      return new Error('the topic took smaller batches than before, while one was sent again');
    return error;
  }

  async #numbered(messages: readonly Message[]): Promise<ProducedBatch> {
    if (this.#sequence + messages.length > endOfSequence) this.#beginAnew();
    this.#identity ??= await this.#context.requests.newProducer(this.#partition);
    return producedBatch(this.#partition, messages, this.#identity, this.#sequence);
  }

  #beginAnew(): void {
    this.#sequence = 0;
    if (!this.#identity) return;
    const { producerId, producerEpoch } = this.#identity;
    this.#identity = producerEpoch < lastEpoch ? { producerId, producerEpoch: producerEpoch + 1 } : null;
  }
}
