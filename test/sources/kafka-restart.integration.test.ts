import { randomUUID } from 'node:crypto';
import { describe, expect, inject, it } from 'vitest';
import { kafkaTransport } from '../../src/sources/kafka/index.ts';
import { ProcessCluster } from '../broker/process-cluster.ts';
import { collect } from './collector.ts';

describe.skipIf(inject('clusterMissing'))('kafkaTransport while its broker restarts', () => {
  it('goes on without loss or repetition', { timeout: 180_000 }, async (context) => {
    const cluster = await ProcessCluster.start();
    context.onTestFinished(() => cluster.stop());
    const transport = kafkaTransport({ brokers: cluster.brokers.split(',') });
    context.onTestFinished(() => transport.close());
    const topic = `restart-${randomUUID()}`;
    await transport.createTopic(topic);
    const collector = await collect(context, transport, { topic, group: `group-${randomUUID()}` });
    const append = (i: number) => transport.produce(topic, [{ value: Buffer.from(`${i}`) }]);
    for (let i = 0; i < 20; i++) await append(i);
    await collector.until(20);

    await cluster.nodes[0]!.kill();
    const appends = [20, 21, 22].map(append);
    await cluster.nodes[0]!.start();
    await Promise.all(appends);
    for (let i = 23; i < 40; i++) await append(i);
    await collector.until(40);

    expect(collector.texts()).toEqual(Array.from({ length: 40 }, (_, i) => `${i}`));
    expect(collector.errors).toEqual([]);
    expect(await transport.endOffsets(topic)).toEqual([40]);
  });

  it('ends with one error where the broker stays away', { timeout: 120_000 }, async (context) => {
    const cluster = await ProcessCluster.start();
    context.onTestFinished(() => cluster.stop());
    const transport = kafkaTransport({ brokers: cluster.brokers.split(','), reconnectForMs: 2000 });
    context.onTestFinished(() => transport.close());
    const topic = `gone-${randomUUID()}`;
    await transport.createTopic(topic);
    const gone = Promise.withResolvers<Error>();
    const errors: Error[] = [];
    const onError = (error: Error) => {
      errors.push(error);
      gone.resolve(error);
    };
    const collector = await collect(context, transport, { topic, onError });
    await transport.produce(topic, [{ value: Buffer.from('a') }]);
    await collector.until(1);

    await cluster.nodes[0]!.kill();
    const refused = transport.produce(topic, [{ value: Buffer.from('b') }]);
    await expect(refused).rejects.toMatchObject({
      key: 'transportFailed',
      message: expect.stringContaining('no broker can be reached'),
    });
    expect(await gone.promise).toMatchObject({ key: 'transportFailed' });
    await collector.stop();
    expect(errors).toHaveLength(1);
  });
});
