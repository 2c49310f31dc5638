import { randomUUID } from 'node:crypto';
import { Kafka, logLevel } from 'kafkajs';
import { describe, expect, inject, onTestFinished, test } from 'vitest';
import { maxMessageBytes } from './broker-settings.ts';

const brokers = inject('brokers');

describe.skipIf(!brokers)('the broker', () => {
  const kafka = new Kafka({ brokers: (brokers ?? '').split(','), logLevel: logLevel.ERROR });

  test('gives a consumer group the records that a producer wrote', async () => {
    const topic = `broker-${randomUUID()}`;
    const admin = kafka.admin();
    await admin.connect();
    onTestFinished(() => admin.disconnect());
    await admin.createTopics({ topics: [{ topic, numPartitions: 1 }] });
    onTestFinished(() => admin.deleteTopics({ topics: [topic] }));

    const values = [Buffer.from('weights'), Buffer.alloc(maxMessageBytes / 2, 7)];
    const producer = kafka.producer();
    await producer.connect();
    onTestFinished(() => producer.disconnect());
    for (const value of values) await producer.send({ topic, messages: [{ key: 'model', value }] });

    const consumer = kafka.consumer({ groupId: topic, maxBytesPerPartition: maxMessageBytes });
    await consumer.connect();
    onTestFinished(() => consumer.disconnect());
    await consumer.subscribe({ topic, fromBeginning: true });
    const { promise, resolve } = Promise.withResolvers<void>();
    const received: { offset: string; value: Buffer | null }[] = [];
    await consumer.run({
      eachMessage: async ({ message: { offset, value } }) => {
        received.push({ offset, value });
        if (received.length === values.length) resolve();
      },
    });
    await promise;
    expect(received.map(({ offset }) => offset)).toEqual(['0', '1']);
    expect(received.map(({ value }, index) => value?.equals(values[index] as Buffer))).toEqual([true, true]);
  });
});
