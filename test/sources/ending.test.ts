import { memoryTransport, type Transport } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { Ending, type Until } from '../../src/sources/ending.ts';
import type { LogRecord } from '../../src/sources/transport.ts';

/** A topic of three partitions with 4, 2 and 0 records. */
async function log(): Promise<Transport> {
  const transport = memoryTransport();
  await transport.createTopic('t', { partitions: 3 });
  const value = Uint8Array.of(1);
  await transport.produce(
    't',
    [0, 0, 0, 0, 1, 1].map((partition) => ({ partition, value })),
  );
  return transport;
}

const record = (offset: number, timestampMs = 0): LogRecord => ({ offset, key: null, value: null, headers: {}, timestampMs });
const endingOf = async (until: Until, from?: Parameters<typeof Ending.of>[2]) => Ending.of(await log(), 't', from, until);

describe('an end', () => {
  it('is reached once every partition was read to where it ended at first', async () => {
    const ending = await endingOf('end');
    expect(ending.ends).toEqual([4, 2, 0]);
    expect([...(ending.from as Map<number, number>)]).toEqual([[2, 0]]);
    ending.reach(0, 3);
    ending.reach(1, 2);
    expect(ending.isReached).toBe(false);
    ending.reach(0, 4);
    expect(ending.isReached).toBe(true);
  });

  it('is reached with nothing to be read: of an empty topic, from the end, or of no partition', async () => {
    expect((await endingOf('end', 'end')).isReached).toBe(true);
    expect(
      (
        await endingOf(
          'end',
          new Map([
            [0, 4],
            [1, 2],
          ]),
        )
      ).isReached,
    ).toBe(true);
    expect((await endingOf({ offsets: new Map() })).isReached).toBe(true);
    expect((await endingOf({ offsets: new Map([[0, 0]]) })).isReached).toBe(true);
  });

  it('at offsets leaves the other partitions unread: they begin at their ends', async () => {
    const ending = await endingOf({ offsets: new Map([[0, 3]]) }, new Map([[0, 1]]));
    expect(new Map(ending.from as Map<number, number>)).toEqual(
      new Map([
        [0, 1],
        [1, 2],
        [2, 0],
      ]),
    );
    expect([ending.isBehind(0, record(2)), ending.isBehind(1, record(0))]).toEqual([false, true]);
    ending.reach(0, 3);
    expect(ending.isReached).toBe(true);
  });

  it('at offsets is of partitions that are there', async () => {
    await expect(endingOf({ offsets: new Map([[3, 1]]) })).rejects.toThrow('got 3');
  });

  it('of one partition does not end another', async () => {
    const ending = await endingOf('end');
    expect(ending.isBehind(0, record(4))).toBe(true);
    expect(ending.isReached).toBe(false);
    expect([ending.isBehind(1, record(0)), ending.isBehind(1, record(1)), ending.isBehind(1, record(2))]).toEqual([
      false,
      false,
      true,
    ]);
    expect(ending.isReached).toBe(true);
  });

  it('at a time is before the first record that is younger, whatever comes behind that', async () => {
    const ending = await endingOf({ timeMs: 100 });
    expect(ending.isBehind(0, record(0, 99))).toBe(false);
    expect(ending.isBehind(0, record(1, 100))).toBe(false);
    expect(ending.isBehind(0, record(2, 101))).toBe(true);
    expect(ending.isBehind(0, record(3, 50))).toBe(true);
    expect(ending.isReached).toBe(false);
    ending.reach(1, 2);
    expect(ending.isReached).toBe(true);
  });
});
