import { randomUUID } from 'node:crypto';
import kafkajs from 'kafkajs';
import { deadLetters, encodeEvent, fromTransport, gradientBatch, type NewRecord, Parameters, type Rejection, sgd } from 'rxgrad';
import { lastValueFrom } from 'rxjs';
import { describe, expect, inject, it, type TestContext } from 'vitest';
import { originalHeaders, readDeadLetter } from '../../src/sinks/dead-letter.ts';
import { kafkaTransport } from '../../src/sources/kafka/index.ts';
import { readAll } from '../../src/sources/read-all.ts';
import type { LogRecord } from '../../src/sources/transport.ts';
import { rxgrad } from '../pipelines/rxgrad.ts';

const found = inject('brokers');
const brokers = found?.split(',') ?? [];

describe.skipIf(!found)('dead letters on a broker', () => {
  async function setUp(context: TestContext) {
    const transport = kafkaTransport({ brokers, maxRecordBytes: 2_000_000 });
    context.onTestFinished(() => transport.close());
    const kafka = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING });
    const topic = `g-${randomUUID()}`;
    await transport.createTopic(topic, { partitions: 2 });
    return { transport, kafka, topic, dead: `${topic}.dead` };
  }

  const record = (sequence: number, values: ArrayLike<number>): NewRecord =>
    encodeEvent(gradientBatch({ gradients: { w: Float32Array.from(values) }, worker: 'w', sequence }), { key: 'model' });

  async function train({ transport, topic, dead }: Awaited<ReturnType<typeof setUp>>) {
    const params = Parameters.create({ w: { dims: [2], data: [0, 0] } });
    const rejected: Rejection[] = [];
    const { next, flushed } = deadLetters(transport, { topic: dead });
    const both = (rejection: Rejection): unknown => {
      rejected.push(rejection);
      return next(rejection);
    };
    const events$ = fromTransport(transport, { topic, partitions: 'any-order', from: 'beginning', until: 'end' });
    await lastValueFrom(events$.pipe(sgd(params, { lr: 1, rejections: { next: both, flushed } })), { defaultValue: null });
    return { params, reasons: rejected.map(({ reason }) => reason) };
  }

  it('are the records as they came, and go back to their partition, once', async (context) => {
    const setting = await setUp(context);
    const { transport, kafka, topic, dead } = setting;
    const producer = kafka.producer();
    await producer.connect();
    context.onTestFinished(() => producer.disconnect());
    const odd = { key: null, value: Buffer.from([0, 255, 1]), headers: { bytes: Buffer.from([0, 200]) } };
    await producer.send({ topic, messages: [{ ...odd, partition: 1 }] });
    const nan = { ...record(1, [Number.NaN, 1]), partition: 1 };
    await transport.produce(topic, [record(1, [1, 1]), nan, { ...record(2, [1, 1]), partition: 1 }]);
    // The same worker's sequence 1 came in the other partition, first or second.
    const { params, reasons } = await train(setting);
    expect(reasons.filter((reason) => reason === 'undecodable')).toHaveLength(1);
    expect(params.version).toBeLessThanOrEqual(2);

    const letters: LogRecord[] = [];
    await readAll(transport, dead, {}, (letter) => void letters.push(letter));
    const [first] = letters.filter((letter) => readDeadLetter(letter, 0)!.reason === 'undecodable');
    expect([first!.key, first!.value]).toEqual([null, odd.value]);
    expect(originalHeaders(first!.headers)).toEqual(odd.headers);
    expect(readDeadLetter(first!, 0)!.position).toEqual({ topic, partition: 1, offset: 0 });

    const log = ['--brokers', brokers.join(',')];
    const { letters: listed } = JSON.parse(rxgrad('dead-letters', 'list', dead, ...log, '--json')) as {
      letters: { id: string }[];
    };
    expect(listed.map(({ id }) => id)).toContain(`${topic}/1@0`);
    expect(rxgrad('dead-letters', 'show', dead, `${topic}/1@0`, ...log)).toContain('first bytes: 00 ff 01');
    expect(rxgrad('dead-letters', 'retry', dead, `${topic}/1@0`, ...log)).toContain(`${topic}/1@0 sent as ${topic}/1@3`);
    expect(rxgrad('dead-letters', 'retry', dead, `${topic}/1@0`, ...log)).toContain('letters sent: 0, 1 left out');
  });

  it('that the topic does not take end the stream with what to do', async (context) => {
    const setting = await setUp(context);
    const { transport, kafka, topic, dead } = setting;
    const admin = kafka.admin();
    await admin.connect();
    context.onTestFinished(() => admin.disconnect());
    const configEntries = [{ name: 'max.message.bytes', value: '4200' }];
    await admin.createTopics({ waitForLeaders: true, topics: [{ topic: dead, configEntries }] });
    await transport.produce(topic, [record(1, new Float32Array(1000)), record(2, [1, 1])]);
    await expect(train(setting)).rejects.toMatchObject({
      code: 'RXGRAD_DEAD_LETTERS_FAILED',
      message: expect.stringMatching(
        /the letter of .*\/0@0 has \d+ bytes, \d+ of them in the headers that say why, but a record may have 4200/,
      ),
    });
  });
});
