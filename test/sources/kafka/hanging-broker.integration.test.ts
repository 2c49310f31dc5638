import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { kafkaTransport } from '../../../src/sources/kafka/index.ts';
import { readAll } from '../../../src/sources/read-all.ts';
import { ProcessCluster } from '../../broker/process-cluster.ts';
import { eventually } from '../../eventually.ts';
import { collect } from '../collector.ts';

const partitions = 6;
const everywhere = Array.from({ length: partitions }, (_, partition) => ({ partition, value: new Uint8Array([partition]) }));

describe.skipIf(inject('clusterMissing'))('while one of three brokers hangs', () => {
  let cluster: ProcessCluster;
  // Made before anything hangs: a broker that has just woken does not know new ones.
  const topics = [0, 1, 2].map((which) => `hang-${which}-${randomUUID()}`);
  beforeAll(async () => {
    cluster = await ProcessCluster.start({ nodes: 3 });
    const transport = kafkaTransport({ brokers: cluster.nodes.map(({ address }) => address) });
    for (const topic of topics) await transport.createTopic(topic, { partitions });
    await transport.close();
  });
  afterAll(() => cluster?.stop());

  // It may be the one that is connected to first, the coordinator of a group, or the one that was asked for the leaders.
  it.for([0, 1, 2])('every partition goes on and every question is answered (%i)', async (which, context) => {
    const brokers = cluster.nodes.map(({ address }) => address);
    const transport = kafkaTransport({ brokers });
    const topic = topics[which]!;
    const without = await collect(context, transport, { topic, from: 'beginning' });
    const member = await collect(context, transport, { topic, group: `g-${randomUUID()}` });
    const stateful = await collect(context, transport, { topic, group: `g-${randomUUID()}`, onAssigned: () => new Map() });
    const everyone = [without, member, stateful];
    await transport.produce(topic, everywhere);
    for (const { until } of everyone) await until(partitions);
    const node = cluster.nodes[which]!;
    node.hang();
    try {
      const questions = [
        transport.endOffsets(topic),
        transport.startOffsets(topic),
        transport.describeTopic!(topic),
        transport.recordAt!(topic, 0, 0),
        transport.topicSettings!(topic),
        readAll(transport, topic, {}, () => {}),
      ];
      for (let round = 2; round < 5; round++) {
        await transport.produce(topic, everywhere);
        for (const { until } of everyone) await until(round * partitions);
      }
      await Promise.all(questions);
      const another = kafkaTransport({ brokers });
      expect(await another.endOffsets(topic)).toEqual(new Array(partitions).fill(4));
      await another.close();
    } finally {
      node.goOn();
    }
    for (const { delivered, errors } of everyone) {
      await eventually(() => expect(delivered.length).toBeGreaterThanOrEqual(4 * partitions));
      for (let partition = 0; partition < partitions; partition++) {
        const offsets = delivered.filter((record) => record.partition === partition).map(({ offset }) => offset);
        expect(offsets).toEqual([0, 1, 2, 3]);
      }
      expect(errors).toEqual([]);
    }
    await transport.close();
  });
});
