import { randomUUID } from 'node:crypto';
import { describe, expect, it, type TestContext, vi } from 'vitest';
import { describeTopic, recordAt } from '../../src/sources/describe-topic.ts';
import { fromTransport } from '../../src/sources/from-transport.ts';
import type { NewRecord, Transport } from '../../src/sources/transport.ts';
import { eventually } from '../eventually.ts';
import { collect, textOf } from './collector.ts';

/** A log that several transports can be connected to. */
export interface LogUnderTest {
  connect(): Transport;
  remove?(): Promise<void> | void;
}

export interface Conformance {
  /** Cases that an implementation does not share, with the reason. */
  readonly deviations?: Partial<Record<Deviation, string>>;
}

export type Deviation = 'another instance' | 'group members share partitions';

/** Runs the cases that every transport passes. */
export function describeTransport(
  name: string,
  open: () => Promise<LogUnderTest> | LogUnderTest,
  { deviations = {} }: Conformance = {},
) {
  const itUnless = (deviation: Deviation, title: string, run: (context: TestContext) => Promise<void>) => {
    const reason = deviations[deviation];
    it(title, reason === undefined ? run : (context) => context.skip(`deviation: ${reason}`));
  };

  async function setUp(context: TestContext, { partitions = 1 } = {}) {
    const log = await open();
    const connected: Transport[] = [];
    const connect = (): Transport => {
      const transport = log.connect();
      connected.push(transport);
      return transport;
    };
    context.onTestFinished(async () => {
      for (const transport of connected) await transport.close();
      await log.remove?.();
    });
    const transport = connect();
    const topic = `conformance-${randomUUID()}`;
    await transport.createTopic(topic, { partitions });
    return { transport, connect, topic, produce: (...texts: string[]) => transport.produce(topic, records(texts)) };
  }

  describe(name, () => {
    it('gives every record its position, in order', async (context) => {
      const { transport, topic, produce } = await setUp(context, { partitions: 2 });
      const positions = await transport.produce(topic, [...records(['a', 'b']), ...records(['c'], 1), ...records(['d'])]);
      expect(positions).toEqual([
        { topic, partition: 0, offset: 0 },
        { topic, partition: 0, offset: 1 },
        { topic, partition: 1, offset: 0 },
        { topic, partition: 0, offset: 2 },
      ]);
      expect(await produce('e')).toEqual([{ topic, partition: 0, offset: 3 }]);
    });

    it('keeps the order of calls that were not awaited', async (context) => {
      const { transport, topic, produce } = await setUp(context);
      const texts = Array.from({ length: 50 }, (_, i) => `${i}`);
      const positions = await Promise.all(texts.map((text) => produce(text)));
      expect(positions.map(([position]) => position!.offset)).toEqual(texts.map(Number));
      const collector = await collect(context, transport, { topic });
      await collector.until(50);
      expect(collector.texts()).toEqual(texts);
    });

    it('appends nothing for no records', async (context) => {
      const { transport, topic } = await setUp(context);
      expect(await transport.produce(topic, [])).toEqual([]);
      expect(await transport.endOffsets(topic)).toEqual([0]);
    });

    it('brings bytes, keys, headers and nulls back as they were', async (context) => {
      const { transport, topic } = await setUp(context);
      const value = Uint8Array.from({ length: 256 }, (_, i) => i);
      const before = Date.now();
      await transport.produce(topic, [
        { key: 'model', value, headers: { ce_type: 'rxgrad.gradients.v1', binary: new Uint8Array([0, 255, 128]) } },
        { key: new Uint8Array([0, 254]), value: null, headers: { ce_id: 'größer' } },
        { key: null, value: new Uint8Array(0) },
        { value: value.subarray(250) },
      ]);
      const [first, second, third, fourth] = await (await collect(context, transport, { topic })).until(4);
      expect(bytesOf(first!.value)).toEqual([...value]);
      expect(textOf(first!.key)).toBe('model');
      expect(textOf(first!.headers.ce_type)).toBe('rxgrad.gradients.v1');
      expect(bytesOf(first!.headers.binary as Uint8Array)).toEqual([0, 255, 128]);
      expect(Object.keys(first!.headers)).toEqual(['ce_type', 'binary']);
      expect(first!.timestampMs).toBeGreaterThanOrEqual(before);
      expect(first!.timestampMs).toBeLessThanOrEqual(Date.now());
      expect([bytesOf(second!.key), second!.value, textOf(second!.headers.ce_id)]).toEqual([[0, 254], null, 'größer']);
      expect([third!.key, bytesOf(third!.value), { ...third!.headers }]).toEqual([null, [], {}]);
      expect([fourth!.key, bytesOf(fourth!.value)]).toEqual([null, [250, 251, 252, 253, 254, 255]]);
    });

    it('carries large records, whose bytes stay valid', async (context) => {
      const { transport, topic } = await setUp(context);
      const sizes = [1_000_000, 5_000_000, 10, 1_000_000, 5_000_000, 70_000, 1_000_000];
      const collector = await collect(context, transport, { topic });
      const sent = sizes.map((size, i) => Uint8Array.from({ length: size }, (_, at) => (at * 31 + i * 7) % 251));
      for (const value of sent) await transport.produce(topic, [{ value }]);
      const received = await collector.until(sizes.length);
      expect(received.map(({ value }, i) => Buffer.compare(value!, sent[i]!))).toEqual(sizes.map(() => 0));
    });

    it('delivers consecutive offsets of each partition in order', async (context) => {
      const { transport, topic } = await setUp(context, { partitions: 3 });
      const all = Array.from({ length: 3000 }, (_, i): NewRecord => ({ value: Buffer.from(`${i}`), partition: i % 3 }));
      await transport.produce(topic, all);
      const collector = await collect(context, transport, { topic });
      const delivered = await collector.until(3000);
      for (const partition of [0, 1, 2]) {
        const own = delivered.filter((record) => record.partition === partition);
        expect(own.map(({ offset }) => offset)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
        expect(own.map(({ value }) => Number(textOf(value)))).toEqual(Array.from({ length: 1000 }, (_, i) => i * 3 + partition));
      }
    });

    it('begins at the first record by default, and where it is told to', async (context) => {
      const { transport, topic, produce } = await setUp(context, { partitions: 2 });
      await produce('a', 'b', 'c');
      await transport.produce(topic, records(['x', 'y'], 1));
      const byDefault = await collect(context, transport, { topic });
      const beginning = await collect(context, transport, { topic, from: 'beginning' });
      const end = await collect(context, transport, { topic, from: 'end' });
      const offsets = await collect(context, transport, { topic, from: new Map([[0, 2]]) });
      await transport.produce(topic, [...records(['d']), ...records(['z'], 1)]);
      await Promise.all([byDefault.until(7), beginning.until(7), end.until(2), offsets.until(5)]);
      expect([byDefault.texts(0), byDefault.texts(1)]).toEqual([
        ['a', 'b', 'c', 'd'],
        ['x', 'y', 'z'],
      ]);
      expect([beginning.texts(0), beginning.texts(1)]).toEqual([byDefault.texts(0), byDefault.texts(1)]);
      expect([end.texts(0), end.texts(1)]).toEqual([['d'], ['z']]);
      expect([offsets.texts(0), offsets.texts(1)]).toEqual([
        ['c', 'd'],
        ['x', 'y', 'z'],
      ]);
    });

    it('goes on behind what a group has acknowledged', async (context) => {
      const { transport, topic, produce } = await setUp(context);
      const group = `group-${randomUUID()}`;
      await produce('a', 'b', 'c', 'd');
      const first = await collect(context, transport, { topic, group });
      await first.until(4);
      first.acknowledge({ topic, partition: 0, offset: 1 });
      await first.stop();
      const second = await collect(context, transport, { topic, group });
      await second.until(2);
      expect(second.texts()).toEqual(['c', 'd']);
      await second.stop();
      const other = await collect(context, transport, { topic, group: `group-${randomUUID()}` });
      await other.until(4);
      expect(other.texts()).toEqual(['a', 'b', 'c', 'd']);
      const told = await collect(context, transport, { topic, group, from: new Map([[0, 1]]) });
      await told.until(3);
      expect(told.texts()).toEqual(['b', 'c', 'd']);
    });

    it('gives independent consumers everything', async (context) => {
      const { transport, topic, produce } = await setUp(context);
      const collectors = [await collect(context, transport, { topic }), await collect(context, transport, { topic })];
      await produce('a', 'b');
      for (const collector of collectors) {
        await collector.until(2);
        expect(collector.texts()).toEqual(['a', 'b']);
      }
    });

    it('delivers nothing more of a partition while its delivery is pending, and goes on with the others', async (context) => {
      const { transport, topic, produce } = await setUp(context, { partitions: 2 });
      const gate = Promise.withResolvers<void>();
      let calls = 0;
      const deliver = (_: string, partition: number) => {
        if (partition === 1) return;
        calls++;
        return gate.promise;
      };
      const collector = await collect(context, transport, { topic, deliver });
      await produce('a');
      await collector.until(1);
      for (const text of ['b', 'c', 'd', 'e']) {
        await produce(text);
        await transport.produce(topic, records([text], 1));
      }
      await collector.until(5);
      expect(collector.texts(1)).toEqual(['b', 'c', 'd', 'e']);
      expect([calls, collector.texts(0)]).toEqual([1, ['a']]);
      gate.resolve();
      await collector.until(9);
      expect(collector.texts(0)).toEqual(['a', 'b', 'c', 'd', 'e']);
    });

    it('seeks backwards and forwards', async (context) => {
      const { transport, topic, produce } = await setUp(context);
      await produce('a', 'b', 'c');
      const collector = await collect(context, transport, { topic });
      await collector.until(3);
      await collector.seek(0, 1);
      await collector.until(5);
      await collector.seek(0, 3);
      await produce('d');
      await collector.until(6);
      expect(collector.texts()).toEqual(['a', 'b', 'c', 'b', 'c', 'd']);
    });

    it('delivers from the sought offset next, whatever was fetched before', async (context) => {
      const { transport, topic, produce } = await setUp(context);
      const gate = Promise.withResolvers<void>();
      await produce('a');
      const collector = await collect(context, transport, { topic, deliver: () => gate.promise });
      await collector.until(1);
      for (const text of ['b', 'c', 'd']) await produce(text);
      await collector.seek(0, 3);
      gate.resolve();
      await collector.until(2);
      await collector.seek(0, 0);
      await collector.until(6);
      expect(collector.texts()).toEqual(['a', 'd', 'a', 'b', 'c', 'd']);
    });

    it('tells the offsets of its first and next records', async (context) => {
      const { transport, topic } = await setUp(context, { partitions: 2 });
      await transport.produce(topic, records(['a', 'b'], 1));
      expect(await transport.startOffsets(topic)).toEqual([0, 0]);
      expect(await transport.endOffsets(topic)).toEqual([0, 2]);
    });

    it('tells what a topic is, and gives single records', async (context) => {
      const { transport, connect, topic, produce } = await setUp(context, { partitions: 2 });
      await produce('a', 'b');
      const described = await describeTopic(transport, topic);
      expect(described).toEqual({ id: expect.stringMatching(/^[0-9a-f-]{32,36}$/), partitions: 2 });
      const other = `${topic}-other`;
      await transport.createTopic(other);
      const { id, partitions } = await describeTopic(transport, other);
      expect(partitions).toBe(1);
      expect(id).not.toBe(described.id);
      if (deviations['another instance'] === undefined) expect(await describeTopic(connect(), topic)).toEqual(described);
      await expect(describeTopic(transport, 'nowhere')).rejects.toMatchObject({ key: 'unknownTopic' });

      const text = async (offset: number, partition = 0) => {
        const record = await recordAt(transport, topic, partition, offset);
        return record && [record.offset, textOf(record.value)];
      };
      expect(await text(0)).toEqual([0, 'a']);
      expect(await text(1)).toEqual([1, 'b']);
      expect(await text(2)).toBe(null);
      expect(await text(0, 1)).toBe(null);
    });

    it('tells how topics are set', async (context) => {
      const { transport, topic } = await setUp(context);
      const compacted = `${topic}-compacted`;
      await transport.createTopic(compacted, { compacted: true });
      expect(await transport.topicSettings!(topic)).toMatchObject({
        compacted: false,
        retentionMs: expect.toBeOneOf([null, 604_800_000]),
      });
      expect(await transport.topicSettings!(compacted)).toMatchObject({ compacted: true, deletes: false, retentionMs: null });
      await expect(transport.topicSettings!('nowhere')).rejects.toMatchObject({ key: 'unknownTopic' });
    });

    it('reads no topic of another id than the one that is asked for', async (context) => {
      const { transport, topic, produce } = await setUp(context);
      await produce('a');
      const { id } = await describeTopic(transport, topic);
      const asked = { topic, deliver: () => {}, onError: () => {} };
      const refused = transport.consume({ ...asked, topicId: 'another' });
      await expect(refused).rejects.toMatchObject({ key: 'topicReplaced', details: { topic, expected: 'another', got: id } });
      await (await transport.consume({ ...asked, topicId: id! })).stop();
    });

    it('stops when the running delivery has ended, and delivers nothing after', async (context) => {
      const { transport, topic, produce } = await setUp(context);
      const gate = Promise.withResolvers<void>();
      await produce('a');
      const stopping = await collect(context, transport, { topic, deliver: () => gate.promise });
      await stopping.until(1);
      const witness = await collect(context, transport, { topic });
      let stopped = false;
      const stop = stopping.stop().then(() => {
        stopped = true;
      });
      await produce('b');
      await witness.until(2);
      expect(stopped).toBe(false);
      gate.resolve();
      await stop;
      await produce('c');
      await witness.until(3);
      expect(stopping.texts()).toEqual(['a']);
    });

    it('ends a consumption whose delivery fails, and says why once', async (context) => {
      const { transport, topic, produce } = await setUp(context);
      const onError = vi.fn();
      const deliver = () => Promise.reject(new Error('no room'));
      await produce('a');
      const collector = await collect(context, transport, { topic, deliver, onError });
      await eventually(() => expect(onError).toHaveBeenCalledWith(new Error('no room')));
      const witness = await collect(context, transport, { topic });
      await produce('b');
      await witness.until(2);
      expect(collector.texts()).toEqual(['a']);
      expect(onError).toHaveBeenCalledTimes(1);
    });

    it('delivers soon after an append to a consumer that waits', async (context) => {
      const { transport, topic, produce } = await setUp(context);
      const arrivals: number[] = [];
      const collector = await collect(context, transport, { topic, deliver: () => void arrivals.push(performance.now()) });
      await produce('warm');
      await collector.until(1);
      const waits: number[] = [];
      for (let i = 2; i <= 12; i++) {
        const start = performance.now();
        await produce(`${i}`);
        await collector.until(i);
        waits.push(arrivals.at(-1)! - start);
      }
      const median = waits.toSorted((a, b) => a - b)[5]!;
      context.annotate(`${name}: ${median.toFixed(2)} ms from produce to deliver`);
      // What a busy machine makes of the others tells nothing; where it only looks now and then, none is so soon behind the one before.
      expect(Math.min(...waits)).toBeLessThan(100);
    });

    itUnless('another instance', 'shows what another instance appends to a consumer that waits', async (context) => {
      const { transport, connect, topic } = await setUp(context);
      const collector = await collect(context, transport, { topic });
      await connect().produce(topic, records(['a']));
      await collector.until(1);
      expect(collector.texts()).toEqual(['a']);
    });

    itUnless(
      'group members share partitions',
      'moves partitions among the members of a group without repeating',
      async (context) => {
        const { transport, topic } = await setUp(context, { partitions: 2 });
        const group = `group-${randomUUID()}`;
        const both = [...records(['a']), ...records(['x'], 1)];
        await transport.produce(topic, both);
        const first = await collect(context, transport, { topic, group });
        await first.until(2);
        const second = await collect(context, transport, { topic, group, from: 'end' });
        await transport.produce(topic, both);
        await eventually(() => expect(first.delivered.length + second.delivered.length).toBe(4));
        expect(first.delivered).toHaveLength(3);
        expect(second.delivered).toHaveLength(1);
        await second.stop();
        await transport.produce(topic, both);
        await eventually(() => expect(first.delivered.length).toBeGreaterThanOrEqual(5));
        for (const partition of [0, 1]) {
          const offsets = first.delivered.filter((record) => record.partition === partition).map(({ offset }) => offset);
          expect(offsets).toEqual([...new Set(offsets)].toSorted((a, b) => a - b));
          expect(offsets.at(-1)).toBe(2);
        }
      },
    );

    it('appends a transaction over topics and partitions, and keeps the order of its calls', async (context) => {
      const { transport, topic } = await setUp(context, { partitions: 2 });
      const other = `${topic}-other`;
      await transport.createTopic(other);
      const writer = await transport.writer(`writer-${randomUUID()}`);
      const collectors = [await collect(context, transport, { topic }), await collect(context, transport, { topic: other })];
      const calls = ['a', 'b', 'c'].map((text) =>
        writer.write([
          { topic, partition: 1, value: Buffer.from(text) },
          { topic: other, value: Buffer.from(`${text}!`), key: 'k', headers: { h: 'x' } },
          { topic, partition: 1, value: Buffer.from(`${text}2`) },
        ]),
      );
      const positions = await Promise.all(calls);
      await collectors[0]!.until(6);
      await collectors[1]!.until(3);
      expect(collectors[0]!.texts(1)).toEqual(['a', 'a2', 'b', 'b2', 'c', 'c2']);
      expect(collectors[1]!.texts()).toEqual(['a!', 'b!', 'c!']);
      expect(textOf(collectors[1]!.delivered[0]!.headers.h)).toBe('x');
      expect(positions.flat().filter((position) => position.topic === topic)).toEqual(
        collectors[0]!.delivered.map(({ partition, offset }) => ({ topic, partition, offset })),
      );
      expect(positions.map(([, position]) => position!.offset)).toEqual(collectors[1]!.delivered.map(({ offset }) => offset));
      expect(await writer.write([])).toEqual([]);
      await writer.close();
      await writer.close();
      await expect(writer.write([{ topic, value: null }])).rejects.toMatchObject({ key: 'transportFailed' });
    });

    it('appends nothing of a transaction that is refused, and then goes on', async (context) => {
      const { transport, topic } = await setUp(context, { partitions: 2 });
      const writer = await transport.writer(`writer-${randomUUID()}`);
      const unknown = `unknown-${randomUUID()}`;
      const good = { topic, value: Buffer.from('never') };
      await expect(writer.write([good, { topic: unknown, value: null }])).rejects.toMatchObject({ key: 'unknownTopic' });
      await expect(writer.write([good, { topic, partition: 2, value: null }])).rejects.toMatchObject({ key: 'invalidOption' });
      await writer.write([{ topic, value: Buffer.from('a') }]);
      const collector = await collect(context, transport, { topic });
      await collector.until(1);
      expect(collector.texts()).toEqual(['a']);
    });

    it('lets the writer go on that was opened last under an id', async (context) => {
      const { transport, topic } = await setUp(context);
      const id = `writer-${randomUUID()}`;
      const text = (value: string) => [{ topic, value: Buffer.from(value) }];
      const first = await transport.writer(id);
      const other = await transport.writer(`${id}-other`);
      await first.write(text('a'));
      const second = await transport.writer(id);
      const fenced = { key: 'fenced', disposition: 'stop', message: expect.stringContaining(`"${id}"`) };
      await expect(first.write(text('never'))).rejects.toMatchObject(fenced);
      await second.write(text('b'));
      await expect(first.write(text('never'))).rejects.toMatchObject(fenced);
      await second.write(text('c'));
      await other.write(text('d'));
      const collector = await collect(context, transport, { topic });
      await collector.until(4);
      expect(collector.texts()).toEqual(['a', 'b', 'c', 'd']);
    });

    itUnless('another instance', 'fences a writer of another instance', async (context) => {
      const { transport, connect, topic } = await setUp(context);
      const id = `writer-${randomUUID()}`;
      const first = await transport.writer(id);
      await first.write([{ topic, value: Buffer.from('a') }]);
      const second = await connect().writer(id);
      await expect(first.write([{ topic, value: Buffer.from('never') }])).rejects.toMatchObject({ key: 'fenced' });
      await second.write([{ topic, value: Buffer.from('b') }]);
    });

    it('carries large transactions', async (context) => {
      const { transport, topic } = await setUp(context, { partitions: 2 });
      const writer = await transport.writer(`writer-${randomUUID()}`);
      const sizes = [700_000, 700_000, 10, 5_000_000, 700_000];
      const sent = sizes.map((size, i) => ({ topic, partition: i % 2, value: new Uint8Array(size).fill(i) }));
      const positions = await writer.write(sent);
      const collector = await collect(context, transport, { topic });
      const received = await collector.until(sizes.length);
      for (const [i, { partition, offset }] of positions.entries()) {
        const found = received.find((record) => record.partition === partition && record.offset === offset);
        expect(Buffer.compare(found!.value!, sent[i]!.value)).toBe(0);
      }
    });

    it("keeps each key's newest record of a compacted topic", async (context) => {
      const { transport, topic: base } = await setUp(context);
      const topic = `${base}-compacted`;
      await transport.createTopic(topic, { partitions: 2, compacted: true });
      const writer = await transport.writer(`writer-${randomUUID()}`);
      for (let i = 0; i < 200; i++) {
        await transport.produce(topic, [{ key: `${i % 3}`, value: Buffer.from(`${i}`), partition: i % 2 }]);
        if (i % 50 === 0) await writer.write([{ topic, key: 'w', value: Buffer.from(`w${i}`) }]);
      }
      await transport.produce(topic, [{ key: '0', value: null }]);
      await expect(transport.produce(topic, records(['no key']))).rejects.toThrow();
      const [end] = await transport.endOffsets(topic);
      const collector = await collect(context, transport, { topic, from: new Map([[0, 0]]) });
      await eventually(() => expect(collector.reached.get(0)).toBe(end));
      const newest = new Map<string, string | null>();
      let last = -1;
      for (const { partition, offset, key, value } of collector.delivered) {
        if (partition !== 0) continue;
        expect(offset).toBeGreaterThan(last);
        last = offset;
        newest.set(textOf(key), value && textOf(value));
      }
      expect(newest).toEqual(
        new Map([
          ['1', '196'],
          ['2', '194'],
          ['w', 'w150'],
          ['0', null],
        ]),
      );
    });

    it('tells where a partition was read to its end, after the deliveries', async (context) => {
      const { transport, topic, produce } = await setUp(context, { partitions: 3 });
      await produce('a', 'b');
      await transport.produce(topic, records(['x'], 1));
      const calls: string[] = [];
      let gate = Promise.withResolvers<void>();
      const collector = await collect(context, transport, {
        topic,
        from: new Map([[1, 1]]),
        deliver: (_, partition, delivered) => {
          calls.push(`deliver ${partition} ${delivered.at(-1)!.offset + 1}`);
          return gate.promise;
        },
        onReached: (partition, next) => calls.push(`reached ${partition} ${next}`),
      });
      await eventually(() =>
        expect(collector.reached).toEqual(
          new Map([
            [1, 1],
            [2, 0],
          ]),
        ),
      );
      await collector.until(2);
      expect(calls.filter((call) => call.includes(' 0 '))).not.toContain('reached 0 2');
      gate.resolve();
      await eventually(() => expect(collector.reached.get(0)).toBe(2));
      gate = Promise.withResolvers<void>();
      gate.resolve();
      await produce('c');
      await eventually(() => expect(collector.reached.get(0)).toBe(3));
      const own = calls.filter((call) => call.includes(' 0 '));
      expect(own.indexOf('reached 0 2')).toBe(own.indexOf('deliver 0 2') + 1);
      expect(own.slice(-2)).toEqual(['deliver 0 3', 'reached 0 3']);
    });

    it('tells the end to a consumer that begins there, and again after a seek', async (context) => {
      const { transport, topic, produce } = await setUp(context);
      await produce('a', 'b');
      const group = `group-${randomUUID()}`;
      const first = await collect(context, transport, { topic, group });
      await first.until(2);
      first.acknowledge({ topic, partition: 0, offset: 1 });
      await first.stop();
      for (const options of [{ from: 'end' as const }, { group }]) {
        const reached: number[] = [];
        const onReached = (_: number, next: number) => reached.push(next);
        const collector = await collect(context, transport, { topic, ...options, onReached });
        await eventually(() => expect(reached).toEqual([2]));
        await collector.seek(0, 1);
        await eventually(() => expect(reached.at(-1)).toBe(2));
        await collector.until(1);
        await eventually(() => expect(reached).toEqual([2, 2]));
        await collector.stop();
      }
    });

    it('begins where its caller says once partitions were assigned', async (context) => {
      const { transport, topic, produce } = await setUp(context, { partitions: 3 });
      await produce('a', 'b', 'c');
      await transport.produce(topic, [...records(['x', 'y'], 1), ...records(['p', 'q'], 2)]);
      const gate = Promise.withResolvers<void>();
      const asked: (readonly number[])[] = [];
      const collector = await collect(context, transport, {
        topic,
        from: new Map([[2, 1]]),
        group: `group-${randomUUID()}`,
        async onAssigned(partitions) {
          asked.push(partitions.toSorted());
          await gate.promise;
          return new Map([
            [0, 2],
            [1, 2],
          ]);
        },
      });
      await transport.produce(topic, records(['z'], 1));
      await eventually(() => expect(asked).toEqual([[0, 1, 2]]));
      const witness = await collect(context, transport, { topic });
      await witness.until(8);
      expect(collector.delivered).toEqual([]);
      gate.resolve();
      await collector.until(3);
      expect([collector.texts(0), collector.texts(1), collector.texts(2)]).toEqual([['c'], ['z'], ['q']]);
      expect(asked).toHaveLength(1);
    });

    it('ends a consumption whose partitions cannot be begun', async (context) => {
      const { transport, topic, produce } = await setUp(context);
      await produce('a');
      for (const [onAssigned, expected] of [
        [() => Promise.reject(new Error('no state')), new Error('no state')],
        [() => new Map([[0, 2]]), expect.objectContaining({ key: 'offsetOutOfRange' })],
        [() => new Map([[7, 0]]), expect.objectContaining({ key: 'invalidOption' })],
      ] as const) {
        const onError = vi.fn();
        const collector = await collect(context, transport, { topic, onAssigned, onError });
        await eventually(() => expect(onError).toHaveBeenCalled());
        expect(onError.mock.calls).toEqual([[expected]]);
        expect(collector.delivered).toEqual([]);
      }
    });

    it('creates a topic once', async (context) => {
      const { transport, topic, produce } = await setUp(context, { partitions: 2 });
      await produce('a');
      await transport.createTopic(topic, { partitions: 2 });
      expect(await transport.endOffsets(topic)).toEqual([1, 0]);
      await expect(transport.createTopic(`${topic}-none`, { partitions: 0 })).rejects.toMatchObject({ key: 'invalidOption' });
    });

    it('refuses an unknown topic', async (context) => {
      const { transport } = await setUp(context);
      const topic = `unknown-${randomUUID()}`;
      const error = { key: 'unknownTopic', message: expect.stringContaining(topic) };
      await expect(transport.produce(topic, records(['a']))).rejects.toMatchObject(error);
      await expect(collect(context, transport, { topic })).rejects.toMatchObject(error);
      await expect(transport.endOffsets(topic)).rejects.toMatchObject(error);
      await expect(transport.startOffsets(topic)).rejects.toMatchObject(error);
    });

    it('refuses a partition or an offset that is not there', async (context) => {
      const { transport, topic, produce } = await setUp(context);
      await produce('a');
      await expect(transport.produce(topic, records(['b'], 1))).rejects.toMatchObject({ key: 'invalidOption' });
      const beyond = { key: 'offsetOutOfRange', details: { first: 0, last: 1, got: 2 } };
      await expect(collect(context, transport, { topic, from: new Map([[0, 2]]) })).rejects.toMatchObject(beyond);
      await expect(collect(context, transport, { topic, from: new Map([[1, 0]]) })).rejects.toMatchObject({
        key: 'invalidOption',
      });
      const collector = await collect(context, transport, { topic });
      await expect(collector.seek(0, 2)).rejects.toMatchObject(beyond);
      await expect(collector.seek(1, 0)).rejects.toMatchObject({ key: 'invalidOption' });
      await collector.until(1);
    });

    it('closes while a source waits for somebody to acknowledge what it has handed out', async (context) => {
      const { transport, topic, produce } = await setUp(context);
      await produce('a', 'b', 'c');
      const seen: unknown[] = [];
      let error: unknown = null;
      const subscription = fromTransport(transport, { topic, from: 'beginning', maxInFlight: 1 }).subscribe({
        next: (event) => seen.push(event),
        error: (reason) => (error = reason),
      });
      context.onTestFinished(() => subscription.unsubscribe());
      await eventually(() => expect(seen).toHaveLength(1));
      await transport.close();
      expect(seen).toHaveLength(1);
      expect(error).toMatchObject({ key: 'transportFailed', message: expect.stringContaining('closed') });
    });

    it('closes: ends its consumptions, and refuses what comes after', async (context) => {
      const { transport, topic, produce } = await setUp(context);
      const collector = await collect(context, transport, { topic });
      await produce('a');
      await collector.until(1);
      // What is begun meanwhile ends as well, or is refused.
      const closing = transport.close();
      const late = transport
        .consume({ topic, from: 'beginning', deliver: () => {}, onError: () => {} })
        .catch((error) => error.key);
      await closing;
      expect([undefined, 'transportFailed']).toContain(
        await late.then((begun) => (typeof begun === 'string' ? begun : begun.stop())),
      );
      await expect(produce('b')).rejects.toMatchObject({ key: 'transportFailed', message: expect.stringContaining('closed') });
      await expect(transport.endOffsets(topic)).rejects.toMatchObject({ key: 'transportFailed' });
      await expect(transport.close()).resolves.toBeUndefined();
      expect(collector.errors).toEqual([]);
    });
  });
}

function records(texts: readonly string[], partition?: number): NewRecord[] {
  return texts.map((text) => ({ value: Buffer.from(text), ...(partition === undefined ? {} : { partition }) }));
}

function bytesOf(bytes: Uint8Array | null): number[] | null {
  return bytes && [...bytes];
}
