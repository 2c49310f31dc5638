import { randomUUID } from 'node:crypto';
import kafkajs from 'kafkajs';
import { firstValueFrom } from 'rxjs';
import { describe, expect, inject, it, type TestContext } from 'vitest';
import { fromTransport } from '../../../src/sources/from-transport.ts';
import { kafkaTransport } from '../../../src/sources/kafka/index.ts';
import { collect } from '../collector.ts';

const found = inject('brokers');
const brokers = found?.split(',') ?? [];

describe.skipIf(!found)('what a producer sends', () => {
  async function setUp(context: TestContext) {
    const transport = kafkaTransport({ brokers, maxRecordBytes: 2_000_000 });
    context.onTestFinished(() => transport.close());
    const producer = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).producer();
    await producer.connect();
    context.onTestFinished(() => producer.disconnect());
    const topic = `limits-${randomUUID()}`;
    await transport.createTopic(topic);
    return { transport, producer, topic };
  }

  const headers = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`h${i}`, 'x']));

  it('costs no more than its size, however many headers it has', async (context) => {
    const { transport, producer, topic } = await setUp(context);
    const messages = [5000, 100, 101, 0].map((count) => ({ value: `${count}`, headers: headers(count) }));
    await producer.send({ topic, messages });
    const collector = await collect(context, transport, { topic });
    await collector.until(4);
    expect(collector.texts()).toEqual(['5000', '100', '101', '0']);
    expect(collector.delivered.map((record) => Object.keys(record.headers).length)).toEqual([0, 100, 0, 0]);
    const event = await firstValueFrom(fromTransport(transport, { topic, from: 'beginning' }));
    expect(event).toMatchObject({ kind: 'rejection', reason: 'undecodable' });
  });

  it('grows by decompression up to a limit, and ends the consumption beyond', async (context) => {
    const { transport, producer, topic } = await setUp(context);
    const compression = kafkajs.CompressionTypes.GZIP;
    const [small, large] = [Buffer.alloc(20 * 2 ** 20), Buffer.alloc(100 * 2 ** 20)];
    await producer.send({ topic, compression, messages: [{ value: small }] });
    const ended = Promise.withResolvers<Error>();
    const collector = await collect(context, transport, { topic, onError: ended.resolve });
    await collector.until(1);
    expect(collector.delivered[0]!.value!.length).toBe(small.length);
    await producer.send({ topic, compression, messages: [{ value: large }] });
    expect(await ended.promise).toMatchObject({
      key: 'transportFailed',
      message: expect.stringMatching(/a compressed batch of \d+ bytes grows to more than 83886080 \(limits-.*begin behind it/),
    });
    expect(collector.delivered).toHaveLength(1);
  });
});
