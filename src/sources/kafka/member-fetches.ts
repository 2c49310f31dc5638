import { createRequire } from 'node:module';
import { setTimeout as delay } from 'node:timers/promises';
import { RxgradError } from '../../errors.ts';
import type { Broker, Cluster, FetchAnswer, FetchRequest } from './kafka-cluster.ts';
import { isPassing, isUnknownTopic } from './kafka-error.ts';
import { describedBy, knowsTopicIds } from './topic-requests.ts';
import { withoutGaps } from './whole-fetches.ts';

export interface MemberFetchesContext {
  readonly topic: string;
  /** The id that the topic has to have; null where its brokers know none. */
  readonly topicId: string | null;
  /** Whether every offset has to be there. */
  readonly whole: boolean;
  /** An offset is missing: nothing that comes after it was handed over. */
  readonly gap: (partition: number, error: RxgradError) => void;
  /** A broker has answered a fetch. */
  readonly fetched: () => void;
  /** A broker did not answer, or not yet; it is asked again. */
  readonly failed: (error: unknown) => void;
  /** Whether the cluster knows the topic, as it has just said. */
  readonly exists: (exists: boolean) => void;
  /** The topic was deleted and made anew: nothing of it was handed over. */
  readonly replaced: (error: RxgradError) => void;
}

const { KafkaJSBrokerNotFound } = createRequire(import.meta.url)('kafkajs/src/errors') as {
  KafkaJSBrokerNotFound: new (message: string) => Error;
};

const retryDelayMs = 250;
/** A broker that has failed is waited for no longer than this, while the others are fetched from. */
const patienceMs = 1000;
const emptyFetchMs = 100;
const nothing: FetchAnswer = { responses: [] };

/**
 * Lets the fetches of a member go on from the brokers that answer, whatever becomes of the others. kafkajs 2.2.4 ends all of them with one
 * that fails, waits for the slowest before it begins again, joins its group again when a leader has moved, and gives up after a while.
 *
 * Compares the topic's id after each fetch that has brought something, with the broker that sent it: what was fetched of a topic that
 * was deleted and made anew comes no further than here. Nor does what comes after a gap, where the topic has to be whole.
 */
export function lastingFetches(cluster: Cluster, context: MemberFetchesContext): void {
  const { topic } = context;
  const find = cluster.findBroker.bind(cluster);
  const refresh = cluster.refreshMetadata.bind(cluster);
  const refreshIfNecessary = cluster.refreshMetadataIfNecessary.bind(cluster);
  const guarded = new WeakMap<Broker, Broker>();

  function isKnown(): boolean {
    try {
      return Object.keys(cluster.findLeaderForPartitions(topic, [0])).length > 0;
    } catch {
      return false;
    }
  }

  async function refreshed(ask: () => Promise<void>): Promise<void> {
    // Before it knows a topic, a member cannot do without.
    if (!isKnown()) return ask();
    try {
      await ask();
      context.exists(true);
    } catch (error) {
      if (isUnknownTopic(error)) context.exists(false);
      else if (!isPassing(error)) throw error;
      context.failed(error);
      await delay(retryDelayMs);
    }
  }

  cluster.refreshMetadata = () => refreshed(refresh);
  // All fetches wait for it otherwise, and the broker that is asked may hang.
  cluster.refreshMetadataIfNecessary = async () => {
    const refreshing = refreshed(refreshIfNecessary);
    if (!isKnown()) return refreshing;
    refreshing.catch(() => undefined);
  };
  cluster.findBroker = async (question) => {
    try {
      const broker = await find(question);
      if (!guarded.has(broker)) guarded.set(broker, guard(broker, context));
      return guarded.get(broker)!;
    } catch (error) {
      throw await passed(error, context);
    }
  };
}

function guard(broker: Broker, context: MemberFetchesContext): Broker {
  const { topic, topicId, whole, fetched, replaced, gap } = context;
  const fetch = broker.fetch.bind(broker);
  // One that was given up, and may still be answered.
  let late: Promise<unknown> | null = null;
  let failing = false;

  async function answered(request: FetchRequest): Promise<FetchAnswer> {
    try {
      const answer = await fetch(request);
      failing = false;
      fetched();
      return answer;
    } catch (error) {
      failing = true;
      throw error;
    }
  }

  async function ask(request: FetchRequest): Promise<FetchAnswer> {
    if (!failing && !late) return answered(request);
    late ??= answered(request)
      .catch(() => undefined)
      .finally(() => {
        late = null;
      });
    await Promise.race([late, delay(patienceMs)]);
    return nothing;
  }

  async function requireTopic(): Promise<void> {
    if (topicId === null || !knowsTopicIds(broker)) return;
    const got = (await describedBy(broker, topic)).id;
    if (got === null || got === topicId) return;
    const error = new RxgradError('topicReplaced', { topic, expected: topicId, got });
    replaced(error as RxgradError);
    throw error;
  }

  broker.fetch = async (request) => {
    try {
      const answer = await ask(request);
      if (!answer.responses.some(hasMessages)) return answer;
      await requireTopic();
      if (!whole) return answer;
      const read = withoutGaps(request, answer, gap);
      // Like a fetch that finds nothing.
      if (!read.responses.some(hasMessages)) await delay(emptyFetchMs);
      return read;
    } catch (error) {
      throw await passed(error, context);
    }
  };
  return broker;
}

/** What kafkajs takes for a reason to ask for the leaders again, and for no more, where that is all that is to be done. */
async function passed(error: unknown, { failed }: MemberFetchesContext): Promise<unknown> {
  if (!isPassing(error) && !isUnknownTopic(error)) return error;
  failed(error);
  await delay(retryDelayMs);
  return new KafkaJSBrokerNotFound(error instanceof Error ? error.message : String(error));
}

function hasMessages({ partitions }: { readonly partitions: readonly { readonly messages: readonly unknown[] }[] }): boolean {
  return partitions.some(({ messages }) => messages.length > 0);
}
