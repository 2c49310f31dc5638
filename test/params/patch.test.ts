import { Parameters } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { type Extent, patch } from '../../src/params/patch.ts';

const rows = (length: number) => Array.from({ length }, (_, i) => i);
const model = () => Parameters.create({ table: { dims: [16, 2], data: rows(32) }, bias: { dims: [3], data: [1, 2, 3] } });
const facts = (version: number) => ({ version, madeAtMs: 10 * version, position: { topic: 'w', partition: 0, offset: version } });

/** Writes a number over rows of the table, over some elements of the bias, or over all of it. */
async function write(
  params: Parameters,
  version: number,
  { table = [] as number[], bias = 0, value = 100 * version },
): Promise<void> {
  const extents = new Map<number, Extent>();
  if (table.length > 0) extents.set(0, Int32Array.from(table));
  if (bias > 0) extents.set(1, bias === 3 ? 'all' : 'part');
  await patch(params, facts(version), extents, (addressOf) => {
    for (const row of table) params.arena.floats(addressOf(0) + 8 * row, 2).fill(value);
    params.arena.floats(addressOf(1), bias).fill(value);
  });
}

const values = (params: Parameters) => [...params].map(({ data }) => [...data]);
const expected = (writes: { table?: number[]; bias?: number; value: number }[]) => {
  const [table, bias] = [rows(32), [1, 2, 3]];
  for (const { table: touched = [], bias: count = 0, value } of writes) {
    for (const row of touched) table.fill(value, 2 * row, 2 * row + 2);
    bias.fill(value, 0, count);
  }
  return [table, bias];
};

describe('parts of the weights that are written', () => {
  it('make a version that is live at once, with what is known of it, beside what they leave as it was', async () => {
    for (const reading of [false, true]) {
      const params = model();
      const reader = reading ? params.reader() : null;
      const changes = params.changes();
      const writes = [
        { table: [3, 9], value: 100 },
        { bias: 2, value: 200 },
        { table: [0], bias: 3, value: 300 },
        { table: [15, 9], value: 400 },
        { table: rows(16), value: 500 },
        { table: [1], value: 600 },
        { bias: 1, value: 700 },
        { table: [2], value: 800 },
      ];
      for (const [i, one] of writes.entries()) {
        await write(params, i + 1, one);
        expect(values(params)).toEqual(expected(writes.slice(0, i + 1)));
        expect(params.live).toEqual(facts(i + 1));
        reader?.read(({ table, bias }) => expect([[...table!], [...bias!]]).toEqual(values(params)));
      }
      expect(changes.take()).toEqual(
        new Map([
          [0, null],
          [1, null],
        ]),
      );
      await write(params, 9, { table: [4, 2] });
      expect(changes.take()).toEqual(new Map([[0, Int32Array.of(2, 4)]]));
    }
  });

  it('leave no memory behind', async () => {
    const params = model();
    params.reader();
    for (let version = 1; version <= 10; version++) await write(params, version, { table: [version, 0], bias: 3 });
    const before = params.arena.allocate(4096);
    for (let version = 11; version <= 60; version++) await write(params, version, { table: [version % 16, 0], bias: 3 });
    expect(params.arena.allocate(4096)).toBe(before + 4096);
  });

  it('are live where they are finite alone, and once what is not was mended', async () => {
    const params = model();
    params.reader();
    await write(params, 1, { table: [3], value: Number.NaN });
    expect([params.finite, params.liveVersion, params.version]).toEqual([false, 0, 1]);
    await write(params, 2, { bias: 1 });
    expect([params.finite, params.liveVersion]).toEqual([false, 0]);
    await write(params, 3, { bias: 2, value: Number.POSITIVE_INFINITY });
    params.load({ table: rows(32) }, { version: 4 });
    expect([params.finite, params.liveVersion]).toEqual([false, 0]);
    await write(params, 5, { bias: 2 });
    expect([params.finite, params.liveVersion]).toEqual([true, 5]);
  });

  it('wait for whoever holds the weights, and for each reader of the side that they are written on', async () => {
    const params = model();
    const readers = [params.reader(), params.reader()];
    const held = readers.map((reader) => reader.acquire());
    await write(params, 1, { bias: 3 });
    const copy = Promise.withResolvers<void>();
    const another = Promise.withResolvers<void>();
    params.seat.hold(copy.promise);
    const written = write(params, 2, { table: [1] });
    const turns = async () => {
      for (let i = 0; i < 20; i++) await new Promise(setImmediate);
      return params.version;
    };
    params.seat.held!.then(() => params.seat.hold(another.promise));
    copy.resolve();
    expect(await turns()).toBe(1);
    readers[0]!.release(held[0]!);
    readers[1]!.release(held[1]!);
    expect(await turns()).toBe(1);
    const [again] = [readers[0]!.acquire()];
    another.resolve();
    await written;
    expect([params.version, params.liveVersion]).toEqual([2, 2]);
    expect([...readers[0]!.weights(again).table!]).toEqual(rows(32));
  });

  it('wait for each of the readers in turn', async () => {
    const params = model();
    const readers = [params.reader(), params.reader()];
    const held = readers.map((reader) => reader.acquire());
    await write(params, 1, { bias: 3 });
    const written = write(params, 2, { table: [1] });
    for (const [i, reader] of readers.entries()) {
      for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
      expect(params.version).toBe(1);
      expect([...reader.weights(held[i]!).bias!]).toEqual([1, 2, 3]);
      reader.release(held[i]!);
    }
    await written;
    expect(params.version).toBe(2);
  });
});
