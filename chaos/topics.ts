import { randomUUID } from 'node:crypto';
import type { NewRecord, Transport } from '../src/index.ts';
import { kafkaTransport } from '../src/sources/kafka/index.ts';

const perAppend = 1000;

/** Does something with a transport, and closes it. */
export async function withTransport<T>(brokers: string, action: (transport: Transport) => Promise<T>): Promise<T> {
  const transport = kafkaTransport({ brokers: brokers.split(',') });
  try {
    return await action(transport);
  } finally {
    await transport.close();
  }
}

/** Makes a topic of records, and returns its name. */
export async function filledTopic(transport: Transport, records: readonly NewRecord[]): Promise<string> {
  const topic = `chaos-${randomUUID()}`;
  await transport.createTopic(topic);
  for (let at = 0; at < records.length; at += perAppend) await transport.produce(topic, records.slice(at, at + perAppend));
  return topic;
}
