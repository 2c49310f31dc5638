import { encodeEvent, fromTransport, GradientBatch, gradientBatch, memoryTransport, type Transport } from 'rxgrad';
import { lastValueFrom, toArray } from 'rxjs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Until } from '../../src/sources/ending.ts';

afterEach(() => void vi.useRealTimers());

/** Two partitions with three batches each, numbered 0 to 5 in turn, a second apart. */
async function log(): Promise<Transport> {
  vi.useFakeTimers({ toFake: ['Date'], now: 10_000 });
  const transport = memoryTransport();
  await transport.createTopic('g', { partitions: 2 });
  for (let i = 0; i < 6; i++) {
    vi.setSystemTime(10_000 + 1000 * i);
    const batch = gradientBatch({ gradients: { w: Float32Array.of(1) }, worker: 'w', sequence: i });
    await transport.produce('g', [{ ...encodeEvent(batch), partition: i % 2 }]);
  }
  return transport;
}

async function sequences(transport: Transport, until: Until, from?: ReadonlyMap<number, number> | 'end') {
  const events = await lastValueFrom(
    fromTransport(transport, { topic: 'g', partitions: 'any-order', until, ...(from ? { from } : {}) }).pipe(toArray()),
  );
  return events.map((event) => (event instanceof GradientBatch ? event.facts.sequence : event.kind)).toSorted();
}

describe('until', () => {
  it('reads up to the offsets named, and nothing of other partitions', async () => {
    const transport = await log();
    expect(await sequences(transport, { offsets: new Map([[0, 2]]) })).toEqual([0, 2]);
    const both = new Map([
      [0, 1],
      [1, 3],
    ]);
    expect(await sequences(transport, { offsets: both })).toEqual([0, 1, 3, 5]);
    expect(await sequences(transport, { offsets: both }, new Map([[1, 2]]))).toEqual([0, 5]);
    expect(
      await sequences(
        transport,
        { offsets: both },
        new Map([
          [0, 1],
          [1, 3],
        ]),
      ),
    ).toEqual([]);
    expect(await sequences(transport, { offsets: new Map() })).toEqual([]);
  });

  it('waits for offsets that are still to come', async () => {
    const transport = await log();
    const reading = sequences(transport, { offsets: new Map([[0, 4]]) });
    const batch = gradientBatch({ gradients: { w: Float32Array.of(1) }, worker: 'w', sequence: 6 });
    await transport.produce('g', [encodeEvent(batch), encodeEvent(batch)]);
    expect(await reading).toEqual([0, 2, 4, 6]);
  });

  it('reads up to a time, and to the present end at the latest', async () => {
    const transport = await log();
    expect(await sequences(transport, { timeMs: 12_000 })).toEqual([0, 1, 2]);
    expect(await sequences(transport, { timeMs: 12_999 }, new Map([[0, 1]]))).toEqual([1, 2]);
    expect(await sequences(transport, { timeMs: 9_999 })).toEqual([]);
    expect(await sequences(transport, { timeMs: 99_999 })).toEqual([0, 1, 2, 3, 4, 5]);
    expect(await sequences(transport, { timeMs: 99_999 }, 'end')).toEqual([]);
  });

  it('refuses what is no end', async () => {
    const transport = await log();
    expect(() => fromTransport(transport, { topic: 'g', until: { timeMs: 1 }, group: 'trainer' })).toThrow(
      '`until` without `group`',
    );
    expect(() => fromTransport(transport, { topic: 'g', until: { timeMs: Number.NaN } })).toThrow('until');
    expect(() => fromTransport(transport, { topic: 'g', until: { offsets: new Map([[0, -1]]) } })).toThrow('until');
    await expect(sequences(transport, { offsets: new Map([[2, 1]]) })).rejects.toMatchObject({ key: 'invalidOption' });
  });
});
