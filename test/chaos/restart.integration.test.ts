import { randomUUID } from 'node:crypto';
import { describe, expect, inject, it } from 'vitest';
import { kafkaTransport } from '../../src/sources/kafka/index.ts';
import { readAll } from '../../src/sources/read-all.ts';
import type { Position } from '../../src/sources/transport.ts';
import { ProcessCluster } from '../broker/process-cluster.ts';
import { eventually } from '../eventually.ts';
import { collect, textOf } from '../sources/collector.ts';

describe.skipIf(inject('clusterMissing'))('kafkaTransport while its broker restarts', () => {
  it('goes on without loss or repetition', async (context) => {
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

  it('writes every transaction once, whenever the broker is killed', async (context) => {
    const cluster = await ProcessCluster.start();
    context.onTestFinished(() => cluster.stop());
    const transport = kafkaTransport({ brokers: cluster.brokers.split(',') });
    context.onTestFinished(() => transport.close());
    const topic = `restart-${randomUUID()}`;
    await transport.createTopic(topic, { partitions: 2 });
    const writer = await transport.writer(`writer-${randomUUID()}`);
    const positions: Position[][] = [];
    let on = true;
    const writing = (async () => {
      for (let i = 0; on; i++) {
        const value = Buffer.from(`${i}`);
        positions.push(
          await writer.write([
            { topic, value },
            { topic, value, partition: 1 },
          ]),
        );
      }
    })();
    const failure: unknown[] = [];
    writing.catch((error: unknown) => failure.push(error));
    for (let kill = 0; kill < 3; kill++) {
      const before = positions.length;
      await eventually(() => expect([positions.length > before + 20, failure]).toEqual([true, []]));
      await cluster.nodes[0]!.kill();
      await cluster.nodes[0]!.start();
    }
    on = false;
    await writing;
    // The broker answers before it marks the last transaction as committed.
    const last = positions.at(-1)!;
    await eventually(async () => {
      const ends = await transport.endOffsets(topic);
      expect(last.every(({ partition, offset }) => ends[partition]! > offset)).toBe(true);
    });
    const read: string[][] = [[], []];
    const offsets: number[][] = [[], []];
    await readAll(transport, topic, {}, ({ offset, value }, partition) => {
      read[partition]!.push(textOf(value));
      offsets[partition]!.push(offset);
    });
    const all = positions.map((_, i) => `${i}`);
    expect(read).toEqual([all, all]);
    expect(positions.map(([first]) => first!.offset)).toEqual(offsets[0]);
    expect(positions.map(([, second]) => second!.offset)).toEqual(offsets[1]);
    context.annotate(`${positions.length} transactions, 3 kills`);
  });

  it('ends with one error where the broker stays away', async (context) => {
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
    const writer = await transport.writer(`writer-${randomUUID()}`);
    await writer.write([{ topic, value: Buffer.from('w') }]);

    await cluster.nodes[0]!.kill();
    const write = () => writer.write([{ topic, value: Buffer.from('x') }]);
    const unwritten = write();
    const refused = transport.produce(topic, [{ value: Buffer.from('b') }]);
    await expect(refused).rejects.toMatchObject({
      key: 'transportFailed',
      message: expect.stringContaining('no broker can be reached'),
    });
    await expect(unwritten).rejects.toMatchObject({ key: 'transportFailed' });
    await expect(write()).rejects.toMatchObject({
      key: 'transportFailed',
      message: expect.stringContaining('Open the writer again'),
    });
    expect(await gone.promise).toMatchObject({ key: 'transportFailed' });
    await collector.stop();
    expect(errors).toHaveLength(1);
  });
});
