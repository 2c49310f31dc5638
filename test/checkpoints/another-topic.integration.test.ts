import { randomUUID } from 'node:crypto';
import kafkajs, { type Admin } from 'kafkajs';
import { type Consumption, FileCheckpoints, fromTransport, type LogRecord, recover, sgd, type Transport } from 'rxgrad';
import { Subject, takeUntil } from 'rxjs';
import { describe, expect, inject, it, type TestContext } from 'vitest';
import { describeTopic } from '../../src/sources/describe-topic.ts';
import { kafkaTransport } from '../../src/sources/kafka/index.ts';
import { eventually } from '../eventually.ts';
import { batches, checkpointOf, folders, model, warningsOf } from './courses.ts';

const brokers = inject('brokers')?.split(',') ?? [];
const place = folders();

describe.skipIf(brokers.length === 0)('a topic of Kafka', () => {
  async function setUp(context: TestContext) {
    const topic = `anew-${randomUUID()}`;
    const transport = kafkaTransport({ brokers });
    const admin = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin();
    await admin.connect();
    context.onTestFinished(async () => {
      await transport.close();
      await admin.disconnect();
    });
    await transport.createTopic(topic);
    await transport.produce(topic, batches('a', 40));
    return { topic, transport, admin };
  }

  /** Deletes a topic and makes it anew, with more records of another worker. */
  async function makeAnew(admin: Admin, transport: Transport, topic: string): Promise<void> {
    const { id } = await describeTopic(transport, topic);
    await admin.deleteTopics({ topics: [topic] });
    await eventually(async () => {
      await admin.createTopics({ topics: [{ topic, numPartitions: 1 }], waitForLeaders: true }).catch(() => false);
      expect((await describeTopic(transport, topic)).id).not.toBe(id);
    });
    await eventually(() => transport.produce(topic, batches('bb', 100)));
  }

  /** A training that goes on until it is told to stop, or fails. */
  async function training(transport: Transport, topic: string, store: FileCheckpoints, partitions?: 'any-order') {
    const params = model();
    const { source, version } = await recover(params, store, { transport, topic, partitions });
    const stop$ = new Subject<void>();
    const ended = Promise.withResolvers<void>();
    fromTransport(transport, { topic, ...source })
      .pipe(takeUntil(stop$), sgd(params, { lr: 0.1 }))
      .subscribe({ error: ended.reject, complete: ended.resolve });
    ended.promise.catch(() => {});
    return { params, version, ended: ended.promise, stop: () => stop$.next() };
  }

  it('that was deleted and made anew between two trainings is refused', { timeout: 90_000 }, async (context) => {
    const { topic, transport, admin } = await setUp(context);
    const store = new FileCheckpoints(place());
    const first = await training(transport, topic, store);
    await eventually(() => expect(first.params.version).toBe(40));
    first.stop();
    await first.ended;
    await store.write(40, checkpointOf(first.params));
    expect((await training(transport, topic, store)).version).toBe(40);
    await makeAnew(admin, transport, topic);
    await expect(recover(model(), store, { transport, topic })).rejects.toMatchObject({ key: 'otherLog' });
    const params = model();
    const fresh = kafkaTransport({ brokers });
    context.onTestFinished(() => fresh.close());
    await expect(recover(params, store, { transport: fresh, topic })).rejects.toMatchObject({ key: 'otherLog' });
    expect(params.version).toBe(0);
  });

  it('that is deleted and made anew under a training ends it before anything of it is trained', {
    timeout: 90_000,
  }, async (context) => {
    const { topic, transport, admin } = await setUp(context);
    const running = await training(transport, topic, new FileCheckpoints(place()));
    await eventually(() => expect(running.params.version).toBe(40));
    const other = kafkaTransport({ brokers });
    context.onTestFinished(() => other.close());
    await makeAnew(admin, other, topic);
    await expect(running.ended).rejects.toMatchObject({
      key: expect.stringMatching(/^(topicReplaced|unknownTopic|offsetOutOfRange)$/),
    });
    expect(running.params.version).toBe(40);
  });

  it('delivers nothing of a topic that was made anew while a delivery is awaited', { timeout: 90_000 }, async (context) => {
    const { topic, transport, admin } = await setUp(context);
    const delivered: LogRecord[] = [];
    const failed = Promise.withResolvers<Error>();
    const first = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    const consumption: Consumption = await transport.consume({
      topic,
      from: 'beginning',
      deliver: (_, __, records) => {
        delivered.push(...records);
        first.resolve();
        return goOn.promise;
      },
      onError: failed.resolve,
    });
    await first.promise;
    const other = kafkaTransport({ brokers });
    context.onTestFinished(() => other.close());
    await makeAnew(admin, other, topic);
    goOn.resolve();
    expect(await failed.promise).toMatchObject({ key: expect.stringMatching(/^(topicReplaced|unknownTopic|offsetOutOfRange)$/) });
    expect(delivered).toHaveLength(40);
    await consumption.stop();
  });

  it('whose partitions become more ends a training, or is read whole', { timeout: 90_000 }, async (context) => {
    const { topic, transport, admin } = await setUp(context);
    const [one, any] = [new FileCheckpoints(place()), new FileCheckpoints(place())];
    const strict = await training(transport, topic, one);
    const anyOrder = await training(transport, topic, any, 'any-order');
    const both = () => expect([strict.params.version, anyOrder.params.version]).toEqual([40, 40]);
    await eventually(both);
    const heard = await warningsOf(async () => {
      await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] });
      await expect(strict.ended).rejects.toMatchObject({ key: 'severalPartitions' });
      const more = [1, 2].flatMap((partition) =>
        batches('x'.repeat(partition + 1), 10).map((record) => ({ ...record, partition })),
      );
      await transport.produce(topic, more);
      await eventually(() => expect(anyOrder.params.version).toBe(60));
    });
    expect(heard.map(({ code }) => code)).toContain('RXGRAD_ANY_ORDER');
    anyOrder.stop();
    await anyOrder.ended;
    await expect(recover(model(), one, { transport, topic })).rejects.toMatchObject({ key: 'severalPartitions' });
  });
});
