import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import { describe, expect, inject, it, type TestContext } from 'vitest';
import { kafkaTransport } from '../../../src/sources/kafka/index.ts';
import { KafkaAppender } from '../../../src/sources/kafka/kafka-appender.ts';
import { kafkaClient } from '../../../src/sources/kafka/kafka-client.ts';
import { newCluster } from '../../../src/sources/kafka/kafka-cluster.ts';
import { kafkaSettings } from '../../../src/sources/kafka/kafka-options.ts';
import { readAll } from '../../../src/sources/read-all.ts';

const found = inject('brokers');
const brokers = found?.split(',') ?? [];
const produce = 0;

interface SetUp {
  readonly partitions?: number;
  readonly reconnectForMs?: number;
  /** Whether the answer to the produce request of this number, from 0 on, gets lost. */
  readonly isLost: (request: number) => boolean;
}

describe.skipIf(!found)('appending to a topic', () => {
  async function setUp(context: TestContext, { partitions = 1, reconnectForMs = 60_000, isLost }: SetUp) {
    const transport = kafkaTransport({ brokers });
    context.onTestFinished(() => transport.close());
    const topic = `appended-${randomUUID()}`;
    await transport.createTopic(topic, { partitions });
    let requests = 0;
    const onSocket = (socket: Socket): void => loseAnswers(socket, () => isLost(requests++));
    const cluster = newCluster(kafkaClient(kafkaSettings({ brokers }), { onSocket }));
    const appender = new KafkaAppender({ name: 'Kafka', cluster, reconnectForMs, mostBytes: async () => '' }, topic);
    context.onTestFinished(() => appender.close());
    const held = async (): Promise<string[][]> => {
      const all = Array.from({ length: partitions }, (): string[] => []);
      await readAll(transport, topic, {}, ({ value }, partition) => {
        all[partition]!.push(Buffer.from(value!).toString());
      });
      return all;
    };
    return { appender, held, transport, topic };
  }

  it('puts each record there once, however often its answer gets lost', async (context) => {
    const { appender, held } = await setUp(context, { isLost: (request) => request % 3 !== 2 });
    for (const value of ['a', 'b', 'c']) {
      const positions = await appender.append([record(value), record(`${value}2`)]);
      expect(positions.map(({ offset }) => offset)).toEqual([0, 1].map((i) => i + 2 * ['a', 'b', 'c'].indexOf(value)));
    }
    expect(await held()).toEqual([['a', 'a2', 'b', 'b2', 'c', 'c2']]);
  });

  it('tells where each record of several partitions is, and keeps the order of calls that share requests', async (context) => {
    const { appender, held } = await setUp(context, { partitions: 3, isLost: (request) => request % 2 === 0 });
    const numbers = Array.from({ length: 50 }, (_, i) => i);
    const calls = numbers.map((i) => appender.append([record(`${i}`, i % 3), record(`${i}`, (i + 1) % 3)]));
    const positions = (await Promise.all(calls)).flatMap((told, i) => told.map((position) => ({ ...position, value: `${i}` })));
    const all = await held();
    for (const { partition, offset, value } of positions) expect(all[partition]![offset]).toBe(value);
    for (const values of all) expect(values.map(Number)).toEqual(values.map(Number).toSorted((a, b) => a - b));
    expect(all.flat()).toHaveLength(100);
  });

  it('takes nothing for a repetition of what it gave up', async (context) => {
    const { appender, held } = await setUp(context, { reconnectForMs: 0, isLost: (request) => request === 1 });
    await appender.append([record('a')]);
    await expect(appender.append([record('given up')])).rejects.toMatchObject({ key: 'transportFailed' });
    const [position] = await appender.append([record('b')]);
    const [values] = await held();
    expect(values![position!.offset]).toBe('b');
    expect(values).toEqual(['a', 'given up', 'b']);
  });

  it('goes on in a topic that was made anew, where nobody knows of it', async (context) => {
    const { appender, held, transport, topic } = await setUp(context, { isLost: () => false });
    await appender.append([record('a'), record('b')]);
    const admin = kafkaClient(kafkaSettings({ brokers })).admin();
    await admin.connect();
    context.onTestFinished(() => admin.disconnect());
    await admin.deleteTopics({ topics: [topic] });
    await expect
      .poll(() =>
        transport.createTopic(topic).then(
          () => transport.endOffsets(topic),
          () => null,
        ),
      )
      .toEqual([0]);
    await expect(appender.append([record('c')])).resolves.toMatchObject([{ offset: 0 }]);
    expect(await held()).toEqual([['c']]);
  });

  it('fails what waits when it is closed, and ends what is being sent', async (context) => {
    const { appender, held } = await setUp(context, { isLost: () => false });
    await appender.append([record('a')]);
    const sent = appender.append([record('b')]);
    const closed = appender.close();
    await expect(appender.append([record('c')])).rejects.toMatchObject({ details: { problem: 'it was closed' } });
    await closed;
    const told = await Promise.allSettled([sent]);
    expect(await held()).toEqual([told[0]!.status === 'fulfilled' ? ['a', 'b'] : ['a']]);
  });
});

function record(value: string, partition = 0) {
  return { value: Buffer.from(value), partition };
}

/** Ends the connection in the place of the answer to a produce request: the broker has done what was asked. */
function loseAnswers(socket: Socket, isLost: () => boolean): void {
  const [write, emit] = [socket.write.bind(socket), socket.emit.bind(socket)];
  let losing = false;
  socket.write = ((bytes: Buffer, ...rest: []) => {
    losing ||= bytes.readInt16BE(4) === produce && isLost();
    return write(bytes, ...rest);
  }) as typeof socket.write;
  socket.emit = (event: string, ...rest: unknown[]) => {
    if (!losing || event !== 'data') return emit(event, ...rest);
    socket.destroy(new Error('the answer was lost'));
    return true;
  };
}
