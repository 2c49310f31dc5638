import { memoryTransport } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { readAll } from '../../src/sources/read-all.ts';
import { textOf } from './collector.ts';

async function log() {
  const transport = memoryTransport();
  await transport.createTopic('g', { partitions: 3 });
  for (let i = 0; i < 2500; i++) await transport.produce('g', [{ value: Buffer.from(`${i}`), partition: i % 2 }]);
  return transport;
}

describe('readAll', () => {
  it('hands every record over, one at a time, and tells the ends', async () => {
    const transport = await log();
    const read: number[][] = [[], [], []];
    let running = 0;
    const ends = await readAll(transport, 'g', {}, async (record, partition) => {
      expect(running++).toBe(0);
      await null;
      running--;
      read[partition]!.push(Number(textOf(record.value)));
    });
    expect(ends).toEqual([1250, 1250, 0]);
    expect(read).toEqual([Array.from({ length: 1250 }, (_, i) => 2 * i), Array.from({ length: 1250 }, (_, i) => 2 * i + 1), []]);
  });

  it('reads from offsets, the partitions asked for', async () => {
    const transport = await log();
    const read: string[] = [];
    const options = { from: new Map([[1, 1248]]), partitions: [1, 2] };
    const ends = await readAll(
      transport,
      'g',
      options,
      ({ value }, partition) => void read.push(`${partition}: ${textOf(value)}`),
    );
    expect([ends, read]).toEqual([
      [1250, 1250, 0],
      ['1: 2497', '1: 2499'],
    ]);
    expect(await readAll(transport, 'g', { partitions: [2] }, () => expect.unreachable())).toEqual([1250, 1250, 0]);
    await expect(readAll(transport, 'g', { partitions: [3] }, () => {})).rejects.toMatchObject({ key: 'invalidOption' });
  });

  it('fails where the transport is closed before the end', async () => {
    const transport = await log();
    const reading = readAll(transport, 'g', {}, async ({ offset }) => {
      if (offset === 3) void transport.close();
    });
    await expect(reading).rejects.toMatchObject({ key: 'transportFailed', message: expect.stringContaining('closed') });
  });

  it('stops at what is younger than its start, and at a failure', async () => {
    const transport = await log();
    let count = 0;
    const reading = readAll(transport, 'g', {}, () => {
      count++;
      if (count === 1) void transport.produce('g', [{ value: null }]);
    });
    await reading;
    expect(count).toBe(2500);
    const failing = readAll(transport, 'g', {}, ({ offset }) => {
      count++;
      if (offset === 3) throw new Error('no such checkpoint');
    });
    await expect(failing).rejects.toThrow('no such checkpoint');
    expect(count).toBeLessThan(2510);
    await expect(readAll(transport, 'none', {}, () => {})).rejects.toMatchObject({ key: 'unknownTopic' });
  });
});
