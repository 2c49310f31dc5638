import { randomUUID } from 'node:crypto';
import { createServer } from 'node:net';
import { inspect } from 'node:util';
import kafkajs from 'kafkajs';
import { describe, expect, inject, it, type TestContext, vi } from 'vitest';
import { kafkaTransport } from '../../src/sources/kafka/index.ts';
import type { NewRecord } from '../../src/sources/transport.ts';
import { eventually } from '../eventually.ts';
import { collect } from './collector.ts';
import { describeTransport } from './transport-conformance.ts';

const found = inject('brokers');
const brokers = found?.split(',') ?? [];

describe.skipIf(!found)('on a broker', () => {
  describeTransport('kafkaTransport', () => ({ connect: () => kafkaTransport({ brokers }) }));

  async function setUp(context: TestContext, { maxRecordBytes = 2_000_000 } = {}) {
    const transport = kafkaTransport({ brokers, maxRecordBytes });
    context.onTestFinished(() => transport.close());
    const admin = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin();
    await admin.connect();
    context.onTestFinished(() => admin.disconnect());
    const topic = `kafka-${randomUUID()}`;
    await transport.createTopic(topic);
    return { transport, admin, topic };
  }

  it('passes over control records and aborted transactions, which occupy offsets', async (context) => {
    const { transport, topic } = await setUp(context);
    const producer = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).producer({
      transactionalId: `t-${randomUUID()}`,
      maxInFlightRequests: 1,
      idempotent: true,
    });
    await producer.connect();
    context.onTestFinished(() => producer.disconnect());
    const collector = await collect(context, transport, { topic });
    for (const [value, end] of [
      ['a', 'commit'],
      ['never', 'abort'],
      ['b', 'commit'],
    ] as const) {
      const transaction = await producer.transaction();
      await transaction.send({ topic, messages: [{ value }] });
      await transaction[end]();
    }
    // The broker answers before it has written the marker of the last one.
    await eventually(async () => expect(await transport.endOffsets(topic)).toEqual([6]));
    await transport.produce(topic, texts('c'));
    await collector.until(3);
    expect(collector.texts()).toEqual(['a', 'b', 'c']);
    expect(collector.delivered.map(({ offset }) => offset)).toEqual([0, 4, 6]);
    const fromControl = await collect(context, transport, { topic, from: new Map([[0, 1]]) });
    await fromControl.until(2);
    expect(fromControl.texts()).toEqual(['b', 'c']);
  });

  it('refuses what is larger than the topic takes, and appends the rest of the same request', async (context) => {
    const { transport, admin, topic } = await setUp(context);
    const other = `small-${randomUUID()}`;
    const configEntries = [{ name: 'max.message.bytes', value: '10000' }];
    await admin.createTopics({ topics: [{ topic: other, configEntries }] });
    const calls = [9000, 20_000, 9000].map((size) => transport.produce(other, [{ value: new Uint8Array(size) }]));
    await expect(calls[1]).rejects.toMatchObject({ key: 'oversizedRecord', details: { where: other, expected: 10_000 } });
    expect((await Promise.all([calls[0], calls[2]])).map((positions) => positions![0]!.offset)).toEqual([0, 1]);
    await expect(transport.produce(topic, [{ value: new Uint8Array(2_000_001) }])).rejects.toMatchObject({
      key: 'oversizedRecord',
    });
  });

  it('goes on with other topics when one that it used was deleted', async (context) => {
    const { transport, admin, topic } = await setUp(context);
    const gone = `gone-${randomUUID()}`;
    await transport.createTopic(gone);
    const writer = await transport.writer(`w-${randomUUID()}`);
    await transport.produce(gone, texts('a'));
    await writer.write([{ topic: gone, value: Buffer.from('b') }]);
    await transport.endOffsets(gone);
    await admin.deleteTopics({ topics: [gone] });
    await eventually(() => expect(transport.endOffsets(gone)).rejects.toMatchObject({ key: 'unknownTopic' }));
    await expect(transport.produce(topic, texts('a'))).resolves.toHaveLength(1);
    await expect(writer.write([{ topic, value: Buffer.from('b') }])).resolves.toHaveLength(1);
    await expect(transport.produce(gone, texts('a'))).rejects.toMatchObject({ key: 'unknownTopic', details: { topic: gone } });
    const other = `other-${randomUUID()}`;
    await transport.createTopic(other);
    await expect(writer.write([{ topic: other, value: Buffer.from('c') }])).resolves.toHaveLength(1);
    await expect(writer.write([{ topic: gone, value: Buffer.from('c') }])).rejects.toMatchObject({
      key: 'unknownTopic',
      details: { topic: gone },
    });
    await transport.createTopic(gone, { partitions: 2 });
    await expect(transport.produce(gone, [{ value: null, partition: 1 }])).resolves.toMatchObject([{ partition: 1, offset: 0 }]);
  });

  it('tells that the broker wants another way to log in, without the password', async (context) => {
    const transport = kafkaTransport({ brokers, sasl: { mechanism: 'SCRAM-SHA-256', username: 'u', password: 'secret' } });
    context.onTestFinished(() => transport.close());
    const failed = await transport.endOffsets('gradients').catch((error: unknown) => error);
    expect(failed).toMatchObject({ key: 'transportFailed', message: expect.stringContaining('Check sasl and ssl') });
    expect(inspect(failed, { depth: null })).not.toContain('secret');
  });

  it('writes acknowledged offsets while it runs', async (context) => {
    const { transport, admin, topic } = await setUp(context);
    const groupId = `group-${randomUUID()}`;
    await transport.produce(topic, texts('a', 'b', 'c'));
    const collector = await collect(context, transport, { topic, group: groupId });
    await collector.until(3);
    collector.acknowledge({ topic, partition: 0, offset: 1 });
    const written = async () => (await admin.fetchOffsets({ groupId, topics: [topic] }))[0]!.partitions[0]!.offset;
    await eventually(async () => expect(await written()).toBe('2'));
  });

  it('ends with an error where the records it needs next were deleted', async (context) => {
    const { transport, admin, topic } = await setUp(context);
    const onError = vi.fn();
    const gate = Promise.withResolvers<void>();
    await transport.produce(topic, texts('a'));
    const collector = await collect(context, transport, { topic, onError, deliver: () => gate.promise });
    await collector.until(1);
    // Fills what is fetched ahead, so that the rest is still to be fetched when it goes.
    const filler = new Uint8Array(1_900_000);
    for (let i = 0; i < 40; i++) await transport.produce(topic, [{ value: filler }]);
    await admin.fetchTopicOffsets(topic);
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '-1' }] });
    gate.resolve();
    await eventually(() => expect(onError).toHaveBeenCalled());
    expect(onError.mock.calls).toEqual([[expect.objectContaining({ key: 'offsetOutOfRange' })]]);
    const offsets = collector.delivered.map(({ offset }) => offset);
    expect(offsets).toEqual(offsets.map((_, i) => i));
  });
});

describe('without a broker', () => {
  it('tells in one error that no broker can be reached', async (context) => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const address = server.address();
    const port = typeof address === 'object' ? address!.port : 0;
    await new Promise((resolve) => server.close(resolve));
    const transport = kafkaTransport({
      brokers: [`127.0.0.1:${port}`],
      sasl: { mechanism: 'SCRAM-SHA-256', username: 'u', password: 'secret' },
    });
    context.onTestFinished(() => transport.close());
    const failed = await transport.produce('gradients', texts('a')).catch((error: unknown) => error);
    expect(failed).toMatchObject({
      key: 'transportFailed',
      message: expect.stringMatching(/no broker can be reached.*ECONNREFUSED/),
    });
    expect(inspect(failed, { depth: null })).not.toContain('secret');
    await expect(collect(context, transport, { topic: 'gradients' })).rejects.toMatchObject({ key: 'transportFailed' });
    await expect(transport.createTopic('gradients')).rejects.toMatchObject({ key: 'transportFailed' });
  });

  it('tells when something else listens there', async (context) => {
    const server = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')).listen(0, '127.0.0.1');
    context.onTestFinished(() => void server.close());
    await new Promise((resolve) => server.once('listening', resolve));
    const address = server.address();
    const transport = kafkaTransport({ brokers: [`127.0.0.1:${typeof address === 'object' ? address!.port : 0}`] });
    context.onTestFinished(() => transport.close());
    await expect(transport.endOffsets('gradients')).rejects.toMatchObject({
      key: 'transportFailed',
      message: expect.stringContaining('expected the answer of a Kafka broker, got other bytes'),
    });
  });

  it('refuses to be made without brokers', () => {
    expect(() => kafkaTransport({ brokers: [] })).toThrow('brokers: expected at least one host:port, got 0');
  });
});

function texts(...values: string[]): NewRecord[] {
  return values.map((text) => ({ value: Buffer.from(text) }));
}
