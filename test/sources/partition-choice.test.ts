import { memoryTransport, type Transport } from 'rxgrad';
import { describe, expect, it, vi } from 'vitest';
import { Consumptions } from '../../src/sources/consumptions.ts';
import { recordAt } from '../../src/sources/describe-topic.ts';
import { chosenPartition, onlyFrom, warnOfAnyOrder } from '../../src/sources/partition-choice.ts';
import type { Consumption } from '../../src/sources/transport.ts';
import { textOf } from './collector.ts';

/** A topic `g` whose partitions have so many records. */
async function logOf(...counts: number[]): Promise<Transport> {
  const transport = memoryTransport();
  await transport.createTopic('g', { partitions: counts.length });
  for (const [partition, count] of counts.entries()) {
    const records = Array.from({ length: count }, (_, i) => ({ partition, value: Buffer.from(`${partition} ${i}`) }));
    await transport.produce('g', records);
  }
  return transport;
}

describe('the partition that is read', () => {
  it('is the only one, the one that is named, or none in particular', () => {
    expect(chosenPartition('g', undefined, 1)).toBe(0);
    expect(chosenPartition('g', [2], 3)).toBe(2);
    expect(chosenPartition('g', 'any-order', 3)).toBeNull();
    expect(chosenPartition('g', 'any-order', 1)).toBeNull();
  });

  it.each([
    [undefined, 3, 3],
    [[0, 1], 3, 2],
    [[], 1, 0],
  ] as const)('is not guessed where %o of %i are asked for', (choice, count, got) => {
    expect(() => chosenPartition('g', choice, count)).toThrow(
      expect.objectContaining({ key: 'severalPartitions', details: { where: 'Topic "g"', count: got } }),
    );
  });

  it('is one that the topic has', () => {
    expect(() => chosenPartition('g', [3], 3)).toThrow('0 to 2, the partitions of "g", got 3');
  });

  it('of several is warned of', () => {
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    warnOfAnyOrder('g', 1);
    expect(warned).not.toHaveBeenCalled();
    warnOfAnyOrder('g', 2);
    expect(warned).toHaveBeenCalledExactlyOnceWith(expect.stringContaining('its 2 partitions'), { code: 'RXGRAD_ANY_ORDER' });
    warned.mockRestore();
  });

  it('is begun where that is asked for, and the others at their ends', async () => {
    const transport = { ...(await logOf(3, 4, 2)), startOffsets: async () => [1, 2, 0] };
    const from = async (asked: Parameters<typeof onlyFrom>[2], only = 1) => [
      ...((await onlyFrom(transport, 'g', asked, only)) as Map<number, number>).values(),
    ];
    expect(await from('end')).toEqual([3, 4, 2]);
    expect(await from('beginning')).toEqual([3, 2, 2]);
    expect(await from(undefined, 0)).toEqual([1, 4, 2]);
    expect(await from(new Map([[1, 3]]))).toEqual([3, 3, 2]);
    expect(await from(new Map([[0, 1]]))).toEqual([3, 2, 2]);
    expect(await from(new Map([[1, 0]]))).toEqual([3, 0, 2]);
  });
});

describe('a record of a transport that gives no single ones', () => {
  it('is the first that is held at an offset or after it, in its own partition', async () => {
    const { recordAt: _, ...transport } = await logOf(3, 2, 0);
    const consumed = vi.spyOn(transport, 'consume');
    const text = async (partition: number, offset: number) =>
      textOf((await recordAt(transport, 'g', partition, offset))?.value) || null;
    expect(await text(0, 2)).toBe('0 2');
    expect(consumed.mock.calls[0]![0].from).toEqual(
      new Map([
        [0, 2],
        [1, 2],
        [2, 0],
      ]),
    );
    expect(await text(1, 0)).toBe('1 0');
    consumed.mockClear();
    expect([await text(0, 3), await text(2, 0), await text(1, 9)]).toEqual([null, null, null]);
    expect(consumed).not.toHaveBeenCalled();
  });

  it('is none where the rest was compacted away, and an error where it cannot be read; its consumption ends', async () => {
    const { recordAt: _, ...transport } = await logOf(3, 2);
    const stop = vi.fn(async () => {});
    const consuming = (call: (options: Parameters<Transport['consume']>[0]) => void) => ({
      ...transport,
      consume: async (options: Parameters<Transport['consume']>[0]) => {
        setImmediate(() => call(options));
        return { acknowledge() {}, seek: async () => {}, stop };
      },
    });
    const record = { offset: 9, key: null, value: null, headers: {}, timestampMs: 0 };
    const compacted = consuming((options) => {
      options.deliver('g', 1, [record]);
      options.onReached!(1, 2);
      options.onReached!(0, 3);
    });
    expect(await recordAt(compacted, 'g', 0, 1)).toBeNull();
    const broken = consuming((options) => options.onError(new Error('out of reach')));
    await expect(recordAt(broken, 'g', 0, 1)).rejects.toThrow('out of reach');
    expect(stop).toHaveBeenCalledTimes(2);
  });
});

it('consumptions are stopped all, with those that are begun meanwhile', async () => {
  const stopped: string[] = [];
  const consumption = (name: string, stopping?: () => void): Consumption => ({
    acknowledge() {},
    seek: async () => {},
    async stop() {
      stopping?.();
      stopped.push(name);
    },
  });
  const late = consumption('late');
  const all = new Consumptions();
  const told: string[] = [];
  const add = (one: Consumption, name: string) => all.add(one, { onStop: () => void told.push(name) });
  add(
    consumption('first', () => add(late, 'late')),
    'first',
  );
  const second = add(consumption('second'), 'second');
  await all.stop();
  expect([stopped, told]).toEqual([
    ['first', 'second', 'late'],
    ['first', 'second', 'late'],
  ]);
  const failing = new Consumptions();
  failing.add({ ...consumption('failing'), stop: () => Promise.reject(new Error('locked')) }, {});
  failing.add(consumption('beside it'), {});
  await expect(failing.stop()).rejects.toThrow('locked');
  expect(stopped.pop()).toBe('beside it');
  await failing.stop();
  // None is left to be stopped; whoever has one may stop it again.
  await all.stop();
  await second.stop();
  expect(stopped).toEqual(['first', 'second', 'late', 'second']);
});
