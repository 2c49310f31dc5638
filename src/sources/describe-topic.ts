import { RxgradError } from '../errors.ts';
import type { Consumption, LogRecord, TopicDescription, Transport } from './transport.ts';

/** What a topic is now, also where its transport does not tell its id. */
export async function describeTopic(transport: Transport, topic: string): Promise<TopicDescription> {
  if (transport.describeTopic) return transport.describeTopic(topic);
  return { id: null, partitions: (await transport.endOffsets(topic)).length };
}

/** Fails where a topic is not the one that it was: everything after an offset may be other records. */
export function requireTopicId(topic: string, expected: string | null | undefined, got: string | null): void {
  if (typeof expected !== 'string' || got === null || got === expected) return;
  throw new RxgradError('topicReplaced', { topic, expected, got });
}

/** The first record that is held at an offset or after it, or null. */
export async function recordAt(
  transport: Transport,
  topic: string,
  partition: number,
  offset: number,
): Promise<LogRecord | null> {
  if (transport.recordAt) return transport.recordAt(topic, partition, offset);
  const ends = await transport.endOffsets(topic);
  if (offset >= ends[partition]!) return null;
  const found = Promise.withResolvers<LogRecord | null>();
  const consumption: Consumption = await transport.consume({
    topic,
    from: new Map([...ends.entries()].map(([other, end]) => [other, other === partition ? offset : end])),
    deliver: (_, from, records) => {
      if (from === partition) found.resolve(records[0]!);
    },
    onReached: (of) => {
      if (of === partition) found.resolve(null);
    },
    onError: found.reject,
  });
  try {
    return await found.promise;
  } finally {
    await consumption.stop();
  }
}
