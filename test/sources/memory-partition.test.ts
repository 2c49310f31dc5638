import { describe, expect, it } from 'vitest';
import { MemoryPartition } from '../../src/sources/memory-partition.ts';
import { textOf } from './collector.ts';

describe('a partition in memory', () => {
  it('keeps what was appended as it was then, whatever its producer writes there', () => {
    const partition = new MemoryPartition(false);
    const [key, value, header] = [Buffer.from('k'), Buffer.from('v'), Buffer.from('h')];
    expect(partition.append({ key, value, headers: { header, text: 'x' } }, 7)).toBe(0);
    expect(partition.append({ key: 'text', value: null }, 8)).toBe(1);
    for (const bytes of [key, value, header]) bytes.fill(0);
    const [first, second] = partition.read(0);
    expect([first!.offset, textOf(first!.key), textOf(first!.value), first!.timestampMs]).toEqual([0, 'k', 'v', 7]);
    expect([textOf(first!.headers.header), first!.headers.text]).toEqual(['h', 'x']);
    expect(second).toEqual({ offset: 1, key: new TextEncoder().encode('text'), value: null, headers: {}, timestampMs: 8 });
    expect(partition.bounds).toEqual({ first: 0, end: 2 });
  });

  it('is read a thousand records at a time', () => {
    const partition = new MemoryPartition(false);
    for (let i = 0; i < 1500; i++) partition.append({ value: null }, i);
    const read = (from: number) => {
      const records = partition.read(from);
      return [records.length, records[0]?.offset, records.at(-1)?.offset];
    };
    expect(read(0)).toEqual([1000, 0, 999]);
    expect(read(400)).toEqual([1000, 400, 1399]);
    expect(read(1400)).toEqual([100, 1400, 1499]);
    expect(read(1500)).toEqual([0, undefined, undefined]);
  });

  it('lets go of what was superseded now and then, where it is compacted', () => {
    const partition = new MemoryPartition(true);
    const append = (count: number) => {
      for (let i = 0; i < count; i++) partition.append({ key: `${i % 2}`, value: Buffer.from(`${partition.bounds.end}`) }, 0);
    };
    const offsets = () => partition.read(0).map(({ offset }) => offset);
    append(68);
    expect(offsets()).toHaveLength(68);
    append(1);
    expect(offsets()).toEqual([67, 68]);
    append(66);
    expect(offsets()).toHaveLength(68);
    expect(partition.read(69).map(({ offset }) => offset)).toHaveLength(66);
    expect(partition.read(200)).toEqual([]);
    expect(partition.bounds).toEqual({ first: 0, end: 135 });
  });

  it('tells keys from each other by all of their bytes, none among them', () => {
    const partition = new MemoryPartition(true);
    const keys = [Buffer.of(0xff), Buffer.of(0xfe), Buffer.alloc(0), Buffer.of(0xff, 0)];
    for (let i = 0; i < 100; i++) for (const key of keys) partition.append({ key, value: null }, 0);
    const kept = new Map(partition.read(0).map(({ key }) => [Buffer.from(key!).toString('hex'), true]));
    expect(kept.size).toBe(4);
  });

  it('lets go of nothing where it is not', () => {
    const partition = new MemoryPartition(false);
    for (let i = 0; i < 200; i++) partition.append({ key: 'k', value: null }, 0);
    expect(partition.read(0)).toHaveLength(200);
  });
});
