import { randomUUID } from 'node:crypto';
import kafkajs from 'kafkajs';
import { describe, expect, inject, it } from 'vitest';
import { kafkaTransport } from '../../../src/sources/kafka/index.ts';
import { eventually } from '../../eventually.ts';
import { collect } from '../collector.ts';

const brokers = inject('brokers')?.split(',') ?? [];

describe.skipIf(brokers.length === 0)('a topic that is deleted while it is read', () => {
  it.for([
    ['without a group', {}],
    ['by a member', { group: `g-${randomUUID()}` }],
    ['by a member that says where its partitions begin', { group: `g-${randomUUID()}`, onAssigned: () => new Map() }],
  ] as const)('ends the consumption with an error that says so (%s)', async ([, options], context) => {
    const transport = kafkaTransport({ brokers });
    const topic = `deleted-${randomUUID()}`;
    await transport.createTopic(topic, { partitions: 2 });
    await transport.produce(topic, [{ value: new Uint8Array(1), partition: 1 }]);
    const { until, errors, stop } = await collect(context, transport, { topic, ...options });
    await until(1);
    const admin = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin();
    await admin.connect();
    await admin.deleteTopics({ topics: [topic] });
    await admin.disconnect();
    await eventually(() => expect(errors).toHaveLength(1));
    expect(errors[0]).toMatchObject({ code: 'RXGRAD_TOPIC_DELETED', details: { topic } });
    expect(errors[0]!.message).toContain(`topic "${topic}" was deleted while it was read`);
    await stop();
    await transport.close();
  });
});
