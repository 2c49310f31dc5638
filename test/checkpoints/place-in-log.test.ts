import { memoryTransport, type Transport } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import type { CheckpointFacts } from '../../src/checkpoints/checkpoint-file.ts';
import { type LogToGoOnIn, placeInLog, placeOfOffsets } from '../../src/checkpoints/place-in-log.ts';
import type { LogFacts } from '../../src/reached.ts';
import { markOf } from '../../src/record-mark.ts';
import { recordAt } from '../../src/sources/describe-topic.ts';
import { warningsOf } from './courses.ts';

/** A topic `g` with ten records in each partition. */
async function logOf(partitions = 1): Promise<Transport> {
  const transport = memoryTransport();
  await transport.createTopic('g', { partitions });
  for (let i = 0; i < 10 * partitions; i++) {
    await transport.produce('g', [{ value: Buffer.from(`${i}`), partition: i % partitions }]);
  }
  return transport;
}

type Positions = CheckpointFacts['positions'];

function factsOf(positions: Positions, log?: Partial<LogFacts>): CheckpointFacts {
  const all = log && { newestMs: 1, topics: [], last: [], ...log };
  return { version: 9, steps: 9, epochs: 0, stages: [], checksum: '', positions, log: all };
}

async function placed(transport: Transport, facts: CheckpointFacts, own: Partial<LogToGoOnIn> = {}) {
  return placeInLog(facts, { transport, topic: 'g', ...own }, 'version 9');
}

const next = (offset: number, partition = 0): Positions[number] => ['g', partition, offset];
const within = (transport: Transport, first: number, last: number): Transport => ({
  ...transport,
  startOffsets: async () => [first],
  endOffsets: async () => [last],
});

describe('a checkpoint goes on', () => {
  it('at the offset that it says, and knows the topic by its id', async () => {
    const transport = await logOf();
    const { id } = await transport.describeTopic!('g');
    expect(await placed(transport, factsOf([next(4)]))).toEqual({ from: new Map([[0, 4]]), topicId: id });
    const { describeTopic: _, ...plain } = transport;
    expect(await placed(plain, factsOf([next(4)]))).toEqual({ from: new Map([[0, 4]]) });
    expect(await placed(plain, factsOf([next(4)]), { partitions: [0] })).toEqual({ from: new Map([[0, 4]]), partitions: [0] });
  });

  it('wherever the log holds what comes next, or ends there', async () => {
    const transport = await logOf();
    for (const offset of [3, 5, 8]) {
      expect((await placed(within(transport, 3, 8), factsOf([next(offset)]))).from).toEqual(new Map([[0, offset]]));
    }
    for (const offset of [2, 9]) {
      const refused = { key: 'logTooShort', details: { where: 'g/0', version: 9, expected: offset, first: 3, last: 8 } };
      await expect(placed(within(transport, 3, 8), factsOf([next(offset)]))).rejects.toMatchObject(refused);
    }
  });

  it('in a topic of its own, whatever others it has read before', async () => {
    const transport = await logOf();
    const refused = { key: 'invalidOption', message: expect.stringContaining('that of version 9 ("h"), got g') };
    await expect(placed(transport, factsOf([['h', 0, 4]]))).rejects.toMatchObject(refused);
    expect((await placed(transport, factsOf([['h', 0, 9], next(4)]))).from).toEqual(new Map([[0, 4]]));
    expect((await placed(transport, factsOf([]))).from).toEqual(new Map([[0, 0]]));
  });

  it('in the topic of the same id alone, where both are known', async () => {
    const transport = await logOf();
    const { id } = await transport.describeTopic!('g');
    const { describeTopic: _, ...unnamed } = transport;
    const other = factsOf([next(4)], { topics: [['g', 'other']] });
    const refused = { key: 'otherLog', details: { where: 'g', topic: 'g', version: 9, expected: 'id other', got: `id ${id}` } };
    await expect(placed(transport, other)).rejects.toMatchObject(refused);
    await expect(placed(transport, factsOf([next(4)], { topics: [['g', id!]] }))).resolves.toMatchObject({ topicId: id });
    await expect(placed(transport, factsOf([next(4)], { topics: [['h', 'other']] }))).resolves.toMatchObject({ topicId: id });
    await expect(placed(unnamed, other)).resolves.toEqual({ from: new Map([[0, 4]]) });
  });

  it('in all partitions that it knows or the topic has, where order does not matter', async () => {
    const transport = await logOf(3);
    const facts = factsOf([next(4), next(5, 1), next(6, 2)]);
    const all = await placed(transport, facts, { partitions: 'any-order' });
    expect([...all.from]).toEqual([
      [0, 4],
      [1, 5],
      [2, 6],
    ]);
    expect([...(await placed(transport, facts, { partitions: [1] })).from]).toEqual([[1, 5]]);
    const heard = await warningsOf(async () => {
      const { from } = await placed(transport, factsOf([next(4), next(6, 2)]), { partitions: 'any-order' });
      expect(from.get(1)).toBe(0);
    });
    expect(heard).toMatchObject([{ message: expect.stringContaining('knows nothing of partition 1: read from offset 0') }]);
    expect(await warningsOf(() => placed(transport, facts, { partitions: 'any-order' }))).toEqual([]);
  });

  it('nowhere, where a partition that it knows is gone', async () => {
    const transport = await logOf();
    for (const partitions of ['any-order', undefined] as const) {
      const gone = placed(transport, factsOf([next(4), next(2, 1)]), { partitions });
      await expect(gone).rejects.toMatchObject({ key: 'logTooShort', details: { where: 'g/1', expected: 2, first: 0, last: 0 } });
    }
    expect((await placed(transport, factsOf([next(4), next(2, 1)]), { partitions: [0] })).from).toEqual(new Map([[0, 4]]));
  });
});

describe('the last record that a checkpoint contains', () => {
  type Last = LogFacts['last'][number];

  async function lastOf(transport: Transport, change: (last: Last) => Last = (last) => last, partition = 0) {
    const { timestampMs, crc } = markOf((await recordAt(transport, 'g', partition, 3))!);
    return factsOf([next(4, partition)], { last: [change(['g', partition, 3, timestampMs, crc])] });
  }

  it('has to be that of the log, in all that is known of it', async () => {
    const transport = await logOf();
    expect((await placed(transport, await lastOf(transport))).from.get(0)).toBe(4);
    const changes: ((last: Last) => Last)[] = [
      ([topic, partition, offset, ms, crc]) => [topic, partition, offset, ms + 1, crc],
      ([topic, partition, offset, ms, crc]) => [topic, partition, offset, ms, crc ^ 1],
      ([topic, partition, , ms, crc]) => [topic, partition, 2, ms, crc],
    ];
    for (const change of changes) {
      await expect(placed(transport, await lastOf(transport, change))).rejects.toMatchObject({ key: 'otherLog' });
    }
  });

  it('is that of the same topic and partition', async () => {
    const transport = await logOf(2);
    const { log } = await lastOf(transport, undefined, 1);
    const facts = factsOf([next(4), next(4, 1)], log);
    expect((await placed(transport, facts, { partitions: [1] })).from.get(1)).toBe(4);
    const elsewhere = factsOf([next(4)], { last: [['h', 0, 3, 1, 1]] });
    expect((await placed(await logOf(), elsewhere)).from.get(0)).toBe(4);
  });

  it('is told in words, a time beyond all calendars too', async () => {
    const transport = await logOf();
    const words = async (ms: number, crc: number) =>
      placed(transport, await lastOf(transport, ([topic, partition, offset]) => [topic, partition, offset, ms, crc])).catch(
        (error) => error.details.expected,
      );
    expect(await words(0, 0xab)).toBe('a record of 1970-01-01T00:00:00.000Z with crc32 000000ab');
    expect(await words(8.64e15, 1)).toBe('a record of +275760-09-13T00:00:00.000Z with crc32 00000001');
    expect(await words(8.65e15, 1)).toBe('a record of 8650000000000000 with crc32 00000001');
    expect(await words(-8.65e15, 1)).toBe('a record of -8650000000000000 with crc32 00000001');
  });

  it('need not be there any more, where the topic is known by its id', async () => {
    const transport = await logOf();
    const { id } = await transport.describeTopic!('g');
    const gone: Transport = { ...transport, recordAt: async () => null };
    const { log } = await lastOf(transport);
    const warnings = (facts: CheckpointFacts, of = gone) => warningsOf(() => placed(of, facts));
    expect(await warnings(factsOf([next(4)], { ...log!, topics: [['g', id!]] }))).toEqual([]);
    const others: LogFacts['topics'] = [
      ['h', 'x'],
      ['g', id!],
    ];
    expect(await warnings(factsOf([next(4)], { ...log!, topics: others }))).toEqual([]);
    const notVerified = [{ code: 'RXGRAD_LOG_NOT_VERIFIED', message: expect.stringContaining('g/0@3: the last record') }];
    expect(await warnings(factsOf([next(4)], log))).toMatchObject(notVerified);
    expect(await warnings(factsOf([next(4)], { ...log!, topics: [['h', id!]] }))).toMatchObject(notVerified);
    const { describeTopic: _, ...unnamed } = gone;
    expect(await warnings(factsOf([next(4)], { ...log!, topics: [['g', id!]] }), unnamed)).toMatchObject(notVerified);
    // Before the first record that is held, nothing can be looked at.
    expect(await warnings(factsOf([next(4)], log), { ...gone, startOffsets: async () => [4] })).toEqual([]);
  });
});

describe('the place of offsets', () => {
  it('has the marks of the records before them, where those are held', async () => {
    const transport = await logOf(3);
    const { id } = await transport.describeTopic!('g');
    const offsets = new Map([
      [0, 0],
      [1, 4],
      [2, 10],
    ]);
    const { last, ...place } = await placeOfOffsets(transport, 'g', offsets);
    expect(place).toEqual({ topic: 'g', topicId: id, next: offsets });
    expect([...last]).toEqual([
      [1, markOf((await recordAt(transport, 'g', 1, 3))!)],
      [2, markOf((await recordAt(transport, 'g', 2, 9))!)],
    ]);
  });

  it('has none of a record that was let go of, or compacted away', async () => {
    const transport = await logOf();
    const lastAt = async (of: Transport, offset: number) =>
      [...(await placeOfOffsets(of, 'g', new Map([[0, offset]]))).last.values()].map((mark) => mark.offset);
    const started = (first: number): Transport => ({ ...transport, startOffsets: async () => [first] });
    expect(await lastAt(started(3), 3)).toEqual([]);
    expect(await lastAt(started(3), 4)).toEqual([3]);
    const compacted: Transport = { ...transport, recordAt: async () => transport.recordAt!('g', 0, 5) };
    expect(await lastAt(compacted, 4)).toEqual([]);
    expect(await lastAt(compacted, 6)).toEqual([5]);
  });
});
