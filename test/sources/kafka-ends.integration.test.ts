import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import kafkajs, { type Producer } from 'kafkajs';
import { encodeEvent, epochBoundary, fromTransport } from 'rxgrad';
import { lastValueFrom, toArray } from 'rxjs';
import { describe, expect, inject, it, type TestContext } from 'vitest';
import { kafkaTransport } from '../../src/sources/kafka/index.ts';
import { readAll } from '../../src/sources/read-all.ts';
import { eventually } from '../eventually.ts';
import { collect } from './collector.ts';

const brokers = inject('brokers')?.split(',') ?? [];
const record = encodeEvent(epochBoundary(0));

describe.skipIf(brokers.length === 0)('the end of a topic on Kafka', () => {
  async function setUp(context: TestContext) {
    const transport = kafkaTransport({ brokers });
    context.onTestFinished(() => transport.close());
    const kafka = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING });
    const topic = `ends-${randomUUID()}`;
    await transport.createTopic(topic, { partitions: 2 });
    async function producer(): Promise<Producer> {
      const transactional = kafka.producer({ transactionalId: `t-${randomUUID()}`, maxInFlightRequests: 1, idempotent: true });
      await transactional.connect();
      context.onTestFinished(() => transactional.disconnect());
      return transactional;
    }
    async function transact(transactional: Producer, end: 'commit' | 'abort', count = 1) {
      const transaction = await transactional.transaction();
      const messages = Array.from({ length: count }, () => ({
        value: Buffer.from(record.value!),
        headers: headersOf(),
        partition: 0,
      }));
      await transaction.send({ topic, messages });
      await transaction[end]();
    }
    const readToEnd = async () => {
      const events = await lastValueFrom(
        fromTransport(transport, { topic, partitions: 'any-order', until: 'end' }).pipe(toArray()),
      );
      return events.map(({ delivery }) => delivery!.position.offset);
    };
    return { transport, kafka, topic, producer, transact, readToEnd };
  }

  it('is found behind a transaction that was committed', async (context) => {
    const { transact, producer, readToEnd } = await setUp(context);
    await transact(await producer(), 'commit', 2);
    expect(await readToEnd()).toEqual([0, 1]);
  });

  it('is found behind one that was aborted, and where there is nothing else', async (context) => {
    const { transport, topic, transact, producer, readToEnd } = await setUp(context);
    const transactional = await producer();
    await transact(transactional, 'abort', 3);
    expect(await readToEnd()).toEqual([]);
    expect(await readAll(transport, topic, {}, () => expect.unreachable())).toEqual([4, 0]);
    await transport.produce(topic, [record]);
    await transact(transactional, 'abort', 2000);
    expect(await readToEnd()).toEqual([4]);
  });

  it('is told to a consumer that waits, when a transaction ends without a record for it', async (context) => {
    const { transport, topic, transact, producer } = await setUp(context);
    const collector = await collect(context, transport, { topic, from: 'end' });
    const reached = (next: number) => eventually(() => expect(collector.reached.get(0)).toBe(next));
    await reached(0);
    const transactional = await producer();
    await transact(transactional, 'abort');
    await reached(2);
    await transact(transactional, 'commit');
    await reached(4);
    expect(collector.delivered.map(({ offset }) => offset)).toEqual([2]);
    expect(collector.reached.get(1)).toBe(0);
  });

  it('lies before a transaction that is still open', async (context) => {
    const { transport, topic, transact, producer, readToEnd } = await setUp(context);
    await transact(await producer(), 'commit');
    const open = await (await producer()).transaction();
    await open.send({ topic, messages: [{ value: 'open', partition: 0 }] });
    await transport.produce(topic, [record]);
    expect(await transport.endOffsets(topic)).toEqual([2, 0]);
    expect(await readToEnd()).toEqual([0]);
    const collector = await collect(context, transport, { topic });
    await eventually(() => expect(collector.reached.get(0)).toBe(2));
    await open.abort();
    await eventually(() => expect(collector.reached.get(0)).toBe(5));
    expect(collector.delivered.map(({ offset }) => offset)).toEqual([0, 3]);
  });

  it('is found in a topic that Kafka has compacted', async (context) => {
    const { transport, kafka } = await setUp(context);
    const topic = `compacted-${randomUUID()}`;
    await transport.createTopic(topic, { compacted: true });
    const admin = kafka.admin();
    await admin.connect();
    context.onTestFinished(() => admin.disconnect());
    const described = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic, configNames: ['cleanup.policy'] }],
    });
    expect(described.resources[0]!.configEntries[0]!.configValue).toBe('compact');
    // A segment closes after 50 ms, so that compaction has something to do within the test.
    const configEntries = [{ name: 'segment.ms', value: '50' }];
    await admin.alterConfigs({
      validateOnly: false,
      resources: [
        {
          type: kafkajs.ConfigResourceTypes.TOPIC,
          name: topic,
          configEntries: [
            ...configEntries,
            { name: 'cleanup.policy', value: 'compact' },
            { name: 'min.cleanable.dirty.ratio', value: '0.01' },
          ],
        },
      ],
    });
    const writers = [await transport.writer(`w-${randomUUID()}`), await transport.writer(`w-${randomUUID()}`)];
    const offsets = async () => {
      const read: number[] = [];
      await readAll(transport, topic, {}, ({ offset }) => void read.push(offset));
      return read;
    };
    let written = 0;
    for (const deadlineMs = Date.now() + 60_000; Date.now() < deadlineMs; ) {
      for (let i = 0; i < 10; i++) {
        await writers[written % 2]!.write([{ topic, key: `${written % 3}`, value: Buffer.from(`${written}`) }]);
        written++;
      }
      await delay(500);
      if ((await offsets()).length < written / 2) break;
    }
    const left = await offsets();
    expect(left.length).toBeLessThan(written / 2);
    expect(left).toEqual([...new Set(left)].toSorted((a, b) => a - b));
    context.annotate(`${left.length} of ${written} records left`);
  });

  function headersOf(): Record<string, string> {
    return record.headers as Record<string, string>;
  }
});
