import { setTimeout as delay } from 'node:timers/promises';
import type { Admin } from 'kafkajs';
import { closedTransport } from '../topic-bounds.ts';
import { kafkaClient } from './kafka-client.ts';
import type { Cluster } from './kafka-cluster.ts';
import { isFinal, isPassing, isUnknownTopic, isUnreachable, kafkaError } from './kafka-error.ts';
import type { KafkaSettings } from './kafka-options.ts';

interface Asked {
  readonly admin: Admin;
  readonly cluster: Cluster;
}

const retryDelayMs = 200;
/** How long a topic that was created may be unknown to the broker that is asked. */
const knownWithinMs = 10_000;

/** Whether a broker has said what brokers there are: one that wants credentials accepts a connection, and closes it with the first question. */
function isKnown(cluster: Cluster): boolean {
  try {
    return cluster.findTopicPartitionMetadata('').length === 0;
  } catch {
    return false;
  }
}

/** What a transport asks its brokers, over one connection that is made when first needed, kept, and made anew when it failed. */
export class Questions {
  /** Of the transport. */
  readonly #name: string;
  readonly #settings: KafkaSettings;
  #current: Promise<Asked> | null = null;
  /** Topics that were created here, and when. */
  readonly #created = new Map<string, number>();
  #everAnswered = false;
  #closing = false;
  #closed = false;

  constructor(name: string, settings: KafkaSettings) {
    this.#name = name;
    this.#settings = settings;
  }

  /**
   * Asks until there is an answer, for `reconnectForMs` at most. Where no broker has ever answered, one attempt has to do: the settings may
   * be wrong. `topic` is what the question is about.
   */
  async ask<T>(question: (admin: Admin, cluster: Cluster) => Promise<T>, topic?: string): Promise<T> {
    for (const giveUpAtMs = Date.now() + this.#settings.reconnectForMs; ; await delay(retryDelayMs)) {
      if (this.#closed) throw closedTransport(this.#name);
      let asked: Asked | null = null;
      try {
        this.#current ??= this.#connect();
        asked = await this.#current;
        const answer = await question(asked.admin, asked.cluster);
        this.#everAnswered = true;
        return answer;
      } catch (error) {
        this.#everAnswered ||= asked !== null && isKnown(asked.cluster);
        // A topic is asked for together with all that were asked for before, some of which may be gone.
        const others = asked ? [...asked.cluster.targetTopics].some((other) => other !== topic) : false;
        const isOfOthers = others && isUnknownTopic(error);
        const isRepeated = isPassing(error) || isOfOthers || (isUnknownTopic(error) && this.#isNew(topic));
        const passes = this.#everAnswered && !isFinal(error) && isRepeated;
        if (!passes || Date.now() > giveUpAtMs) throw kafkaError(this.#name, error, topic);
        // A connection that is made after the end would keep the process alive.
        if (this.#closing) throw closedTransport(this.#name);
        // Or the connection is from before a broker's restart.
        if (isOfOthers || isUnreachable(error)) await this.#drop(asked);
        else await asked?.cluster.refreshMetadata().catch(() => undefined);
      }
    }
  }

  /** Makes sure that a broker can be reached, within `reconnectForMs` if one ever was. */
  async reach(): Promise<void> {
    await this.ask(async () => undefined);
  }

  /** Notes that a topic was created: for a moment, a broker that does not know it is asked again. */
  created(topic: string): void {
    this.#created.set(topic, Date.now());
  }

  /** From now on no question is asked twice. */
  endSoon(): void {
    this.#closing = true;
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#closed = true;
    await this.#drop(await this.#current?.catch(() => null));
  }

  #isNew(topic = ''): boolean {
    return Date.now() - (this.#created.get(topic) ?? -Infinity) < knownWithinMs;
  }

  async #connect(): Promise<Asked> {
    const made: Cluster[] = [];
    const admin = kafkaClient(this.#settings, { onCluster: (cluster) => void made.push(cluster) }).admin();
    try {
      await admin.connect();
      return { admin, cluster: made[0]! };
    } catch (error) {
      this.#current = null;
      throw error;
    }
  }

  /** Leaves a connection; another one that was made meanwhile stays. */
  async #drop(asked: Asked | null | undefined): Promise<void> {
    // Another question that failed with it may have left it already.
    if (!asked || (await this.#current?.catch(() => null)) !== asked) return;
    this.#current = null;
    await asked.admin.disconnect().catch(() => undefined);
  }
}
