import { Parameters } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { Replica } from '../../src/weights/replica.ts';
import { copyPieces } from '../../src/weights/weights-file.ts';
import type { WeightsFacts } from '../../src/weights/weights-header.ts';
import { snapshotFacts } from './snapshot-facts.ts';

type Specs = Readonly<Record<string, { readonly dims: readonly number[]; readonly data: readonly number[] }>>;

/** A file of whole parameters. */
function fileOf(specs: Specs, step: object | null = null): Uint8Array {
  const params = Parameters.create(specs);
  const pieces = params.places.map((place) => ({ place, from: 0, length: place.length, rows: null }));
  const { leftRight, arena } = params;
  return copyPieces(arena, leftRight.address(leftRight.latest), pieces, 'F32', step as Record<string, unknown> | null)();
}

const facts = (own: Partial<WeightsFacts> & { sequence: number }): WeightsFacts => snapshotFacts({ course: 'a', ...own });

/** A replica that applies each part as it comes; says what it shows, or why the part is of no use. */
function following(into: Parameters | null = null, maxBytes = 1 << 20, before: Replica | null = null) {
  const replica = new Replica('w', into, maxBytes, before);
  let offset = 0;
  const add = async (
    own: Partial<WeightsFacts> & { sequence: number },
    specs: Specs,
    { step = null as object | null, isOld = false } = {},
  ) => {
    const refused = replica.add(facts(own), fileOf(specs, step), { topic: 'w', partition: 0, offset: offset++ }, isOld);
    if (refused) return refused.message;
    const shown = await replica.advance();
    return (
      shown && {
        version: shown.version,
        ...Object.fromEntries([...shown.params].map(({ name, data }) => [name, [...data]])),
        shown,
      }
    );
  };
  return { replica, add };
}

const w = (...data: number[]): Specs => ({ w: { dims: [data.length], data } });

describe('a replica', () => {
  it('shows each version that is newer, in parameters of its own', async () => {
    const { replica, add } = following();
    expect(replica.visible).toBe(-1);
    expect(await add({ sequence: 1, version: 4 }, w(1, 2))).toMatchObject({ version: 4, w: [1, 2] });
    expect(await add({ sequence: 2, version: 4 }, w(9, 9))).toBeNull();
    expect(await add({ sequence: 3, version: 3 }, w(9, 9))).toBeNull();
    const last = await add({ sequence: 4, version: 6 }, w(3, 4));
    expect(last).toMatchObject({ version: 6, w: [3, 4] });
    expect([replica.visible, replica.courses()]).toEqual([6, new Map([['1/0', 'a']])]);
    expect((last as { shown: { params: Parameters } }).shown.params).toMatchObject({ version: 6, liveVersion: 6, course: 'a' });
  });

  it('says of a version what its publisher said, and else what it knows itself', async () => {
    const { add } = following(Parameters.create({ w: { dims: [1] } }));
    const said = { madeAtMs: 5000, topic: 'g', partition: 2, offset: 77, loss: 3 };
    const first = (await add({ sequence: 1 }, w(1), { step: said })) as {
      shown: { params: Parameters; step: object; position: object };
    };
    expect(first.shown.params.live).toEqual({ version: 1, madeAtMs: 5000, position: { topic: 'g', partition: 2, offset: 77 } });
    expect([first.shown.step, first.shown.position]).toEqual([said, { topic: 'w', partition: 0, offset: 0 }]);
    const { params } = first.shown;
    const before = Date.now();
    const own = { topic: 'w', partition: 0 };
    const wrong = [
      { ...said, topic: 5, madeAtMs: 'x' },
      { ...said, partition: null },
      { ...said, offset: 'x' },
      { topic: 'g' },
      {},
    ];
    for (const [i, step] of wrong.entries()) {
      await add({ sequence: 2 + i }, w(1), { step });
      expect(params.live.position).toEqual({ ...own, offset: 1 + i });
    }
    expect(params.live.madeAtMs).toBeGreaterThanOrEqual(before);
  });

  it('stays with the course of training that it follows, unless the topic held another one before it was read', async () => {
    const { replica, add } = following(Parameters.create({ w: { dims: [1] } }));
    await add({ sequence: 5 }, w(1));
    const other = { sequence: 1, course: 'b' };
    expect(await add(other, w(2))).toMatch(
      /^w\/0@1: expected weights of the course of training that is followed \(a\), got version 1 of/,
    );
    expect(await add({ ...other, kind: 'delta', base: 0 }, w(2), { isOld: true })).toMatch(/that is followed \(a\)/);
    expect(replica.refuse(facts({ sequence: 9, course: 'b' }), { message: 'damaged' } as never)?.message).toBe('damaged');
    expect(replica.isBroken).toBe(false);
    expect(await add(other, w(2), { isOld: true })).toMatchObject({ version: 1, w: [2] });
    expect(replica.courses()).toEqual(new Map([['1/0', 'b']]));
    expect(await add({ sequence: 6, kind: 'delta', base: 5 }, w(3), { isOld: true })).toMatch(/that is followed \(b\)/);
    expect(await add({ sequence: 7 }, w(3))).toMatch(/that is followed \(b\), got version 7/);
    // The last course that the topic held is the one.
    expect(await add({ sequence: 8 }, w(4), { isOld: true })).toMatchObject({ version: 8, w: [4] });
  });

  it('goes on with what another one before it has shown', async () => {
    const into = Parameters.create({ w: { dims: [1] } });
    const first = following(into);
    await first.add({ sequence: 5 }, w(1));
    const second = following(into, 1 << 20, first.replica);
    expect([second.replica.visible, second.replica.courses()]).toEqual([5, new Map([['1/0', 'a']])]);
    expect(await second.add({ sequence: 5 }, w(9))).toBeNull();
    expect(await second.add({ sequence: 6, course: 'b' }, w(9))).toMatch(/that is followed \(a\)/);
    expect(await second.add({ sequence: 6 }, w(2))).toMatchObject({ version: 6, w: [2] });
  });

  it('needs a snapshot where something came to nothing', async () => {
    const { replica, add } = following();
    expect(replica.isBroken).toBe(false);
    await add({ sequence: 1 }, w(1));
    expect(replica.refuse(facts({ sequence: 1 }), { message: 'damaged' } as never)).toBeNull();
    expect(replica.isBroken).toBe(false);
    expect(replica.refuse(facts({ sequence: 2 }), { message: 'damaged' } as never)?.message).toBe('damaged');
    expect(replica.isBroken).toBe(true);
    expect([await add({ sequence: 3, kind: 'delta', base: 2 }, w(5)), replica.isBroken]).toEqual([null, true]);
    expect(await add({ sequence: 4 }, w(2))).toMatchObject({ w: [2] });
    expect(replica.isBroken).toBe(false);
  });

  it('is refused a model that is larger than it may be, also where each shard is not', async () => {
    const half = (from: number) => ({ [`w[${from}:${from + 100}]`]: { dims: [100], data: Array(100).fill(1) } });
    const { add } = following(null, 799);
    await add({ sequence: 1, shards: 2 }, half(0));
    await expect(add({ sequence: 1, shards: 2, shard: 1 }, half(100))).rejects.toThrow(
      /weightsFrom: maxBytes: expected 800, which the model has, got 799/,
    );
    const enough = following(null, 800);
    await enough.add({ sequence: 1, shards: 2 }, half(0));
    expect(await enough.add({ sequence: 1, shards: 2, shard: 1 }, half(100))).toMatchObject({ version: 1 });
  });

  it('does not fit parameters of other names or shapes', async () => {
    const differing = (dims: number[]) => following(Parameters.create({ w: { dims } })).add({ sequence: 1 }, w(1, 2));
    await expect(differing([3])).rejects.toThrow('"w" is [2] on the topic, [3] here');
    await expect(following(Parameters.create({ v: { dims: [2] } })).add({ sequence: 1 }, w(1, 2))).rejects.toThrow(
      '"v" [2] is not on the topic; "w" [2] is on the topic alone',
    );
    expect(await differing([2])).toMatchObject({ w: [1, 2] });
  });
});

describe('shards that are put together', () => {
  const shard = (index: number, specs: Specs, sequence = 1, more: Partial<WeightsFacts> = {}) =>
    [{ sequence, shard: index, shards: 2, course: `c${index}`, ...more }, specs] as const;
  const low = (...data: number[]): Specs => ({ 'emb[0:1]': { dims: [1, 2], data }, bias: { dims: [1], data: [7] } });
  const high = (...data: number[]): Specs => ({ 'emb[1:3]': { dims: [2, 2], data } });

  it('show the newest version that all have, with the rows in their places', async () => {
    const { add } = following();
    expect(await add(...shard(0, low(1, 2)))).toBeNull();
    expect(await add(...shard(0, low(-1, -2), 2))).toBeNull();
    const first = await add(...shard(1, high(3, 4, 5, 6)));
    expect(first).toMatchObject({ version: 1, emb: [1, 2, 3, 4, 5, 6], bias: [7] });
    expect(await add(...shard(1, high(-3, -4, -5, -6), 2))).toMatchObject({ version: 2, emb: [-1, -2, -3, -4, -5, -6] });
  });

  it('are of a course that follows from those of each', async () => {
    const course = async (of: string, second: string) => {
      const { add } = following();
      await add(...shard(0, low(1, 2), 1, { course: of }));
      const shown = (await add(...shard(1, high(3, 4, 5, 6), 1, { course: second }))) as { shown: { params: Parameters } };
      return shown.shown.params.course;
    };
    const both = await course('a', 'b');
    expect(both).toMatch(/^[0-9a-f]{64}$/);
    expect(await course('a', 'b')).toBe(both);
    expect(await course('a', 'c')).not.toBe(both);
  });

  it('do not fit where rows are missing, are there twice, or are of several widths', async () => {
    const together = async (first: Specs, second: Specs) => {
      const { add } = following();
      await add(...shard(0, first));
      return add(...shard(1, second));
    };
    const rows = (from: number, to: number, width = 2): Specs => ({
      [`emb[${from}:${to}]`]: { dims: [to - from, width], data: Array((to - from) * width).fill(1) },
    });
    await expect(together(rows(0, 2), rows(3, 4))).rejects.toThrow('"emb" on w has row 2 in no shard');
    await expect(together(rows(0, 2), rows(1, 4))).rejects.toThrow('"emb" on w has row 1 in two shards');
    await expect(together(rows(1, 2), rows(2, 4))).rejects.toThrow('"emb" on w has row 0 in no shard');
    await expect(together(rows(0, 2), rows(2, 4, 3))).rejects.toThrow('"emb" on w has rows of [3] and of [2]');
    expect(await together(rows(2, 4), rows(0, 2))).toMatchObject({ emb: Array(8).fill(1) });
  });

  it('have names of their own that look like rows, and are none', async () => {
    const named = { 'emb[0:5]': { dims: [2], data: [1, 2] } };
    expect(await following().add({ sequence: 1 }, { 'emb[0:2]': { dims: [2], data: [1, 2] } })).toMatchObject({
      'emb[0:2]': [1, 2],
    });
    const { add } = following();
    await add(...shard(0, named));
    expect(await add(...shard(1, w(3)))).toMatchObject({ 'emb[0:5]': [1, 2], w: [3] });
  });

  it('are left for another division of the model, once that has a newer version', async () => {
    const { replica, add } = following();
    await add(...shard(0, low(1, 2), 3));
    await add(...shard(1, high(3, 4, 5, 6), 3));
    const whole: Specs = { emb: { dims: [3, 2], data: [9, 9, 9, 9, 9, 9] }, bias: { dims: [1], data: [8] } };
    expect(await add({ sequence: 1, version: 3, course: 'c' }, whole)).toBeNull();
    expect(await add({ sequence: 2, version: 4, course: 'c' }, whole)).toMatchObject({ version: 4, bias: [8] });
    // What goes on elsewhere goes on from something else: a snapshot is needed there.
    const delta: Partial<WeightsFacts> = { kind: 'delta', base: 3, version: 5 };
    expect(await add(...shard(0, low(1, 2), 4, delta))).toBeNull();
    expect(await add(...shard(1, high(3, 4, 5, 6), 4, delta))).toBeNull();
    expect([replica.isBroken, replica.visible]).toEqual([true, 4]);
    await add(...shard(0, low(1, 2), 5, { version: 6 }));
    expect(await add(...shard(1, high(3, 4, 5, 6), 5, { version: 6 }))).toMatchObject({ version: 6, emb: [1, 2, 3, 4, 5, 6] });
  });

  it('are followed in four divisions at once, of which the one that is shown stays', async () => {
    const { replica, add } = following();
    await add({ sequence: 1, version: 10, course: 'c' }, w(1));
    for (const shards of [2, 3, 4, 5, 6]) await add({ sequence: 1, version: 11, shards, course: `of ${shards}` }, w(2));
    expect([...replica.courses().keys()]).toEqual(['1/0', '4/0', '5/0', '6/0']);
    expect(await add({ sequence: 2, version: 12, kind: 'delta', base: 1, course: 'c' }, w(3))).toMatchObject({
      version: 12,
      w: [3],
    });
  });

  it('lose what waits beyond the limit, and say so where nothing is left of it', async () => {
    const { replica, add } = following(null, 300);
    const told: unknown[] = [];
    for (let sequence = 1; sequence <= 3; sequence++) told.push(await add(...shard(0, low(1, 2), sequence)));
    expect(told).toEqual([null, null, null]);
    for (let sequence = 4; sequence <= 5; sequence++) {
      told.push(await add(...shard(0, low(1, 2), sequence, { kind: 'delta', base: sequence - 1 })));
    }
    expect(told.slice(3)).toContainEqual(
      expect.stringMatching(/^w\/0@\d: expected at most 600 bytes to wait for other shards, got more/),
    );
    expect(replica.isBroken).toBe(true);
  });
});
