import { describeTopic, requireTopicId } from './describe-topic.ts';
import type { TopicDescription, Transport } from './transport.ts';

const INTERVAL_MS = 5000;

export interface TopicWatchEvents {
  /** The topic has more partitions than before. What it throws is a failure. */
  grown(partitions: number): void;
  /** The topic cannot be read on: it is another one now, or has grown. */
  failed(error: unknown): void;
}

/** Looks every five seconds whether a topic is the one that it was, with as many partitions. Returns what ends that. */
export function watchTopic(transport: Transport, topic: string, known: TopicDescription, events: TopicWatchEvents): () => void {
  let { partitions } = known;
  let asking = false;
  let over = false;

  async function look(): Promise<void> {
    // A log that is out of reach is told by who reads it.
    const now = await describeTopic(transport, topic).catch(() => null);
    if (!now || over) return;
    try {
      requireTopicId(topic, known.id, now.id);
      if (now.partitions <= partitions) return;
      ({ partitions } = now);
      events.grown(partitions);
    } catch (error) {
      events.failed(error);
    }
  }

  const looking = setInterval(() => {
    if (asking) return;
    asking = true;
    void look().finally(() => {
      asking = false;
    });
  }, INTERVAL_MS).unref();
  return () => {
    over = true;
    clearInterval(looking);
  };
}

/** Does something once a minute. Returns what ends that. */
export function everyMinute(action: () => Promise<void>): () => void {
  let acting = false;
  const interval = setInterval(() => {
    if (acting) return;
    acting = true;
    action()
      .catch((error: Error) => process.emitWarning(error.message, { code: 'RXGRAD_WATCH_FAILED' }))
      .finally(() => {
        acting = false;
      });
  }, 60_000).unref();
  return () => clearInterval(interval);
}
