import fc from 'fast-check';
import { Parameters, readShardPlan, type ShardPlan, shardPlan } from 'rxgrad';
import { describe, expect, it } from 'vitest';

const sizeOf = (dims: readonly number[]): number => dims.reduce((size, dim) => size * dim, 1);
const dims = fc.array(fc.integer({ min: 1, max: 24 }), { maxLength: 3 });
const model = fc
  .array(dims, { minLength: 1, maxLength: 12 })
  .map((all) => Object.fromEntries(all.map((dims, i) => [`p${i}`, { dims }])));
const shards = fc.integer({ min: 1, max: 6 });

function loadsOf(plan: ShardPlan): number[] {
  return plan.shards.map((parts) => parts.reduce((sum, { dims }) => sum + sizeOf(dims), 0));
}

/** A plan, or null where there is too little to be split. */
function planOf(model: Record<string, { dims: number[] }>, options: { shards: number; cut?: boolean }): ShardPlan | null {
  try {
    return shardPlan(model, options);
  } catch (error) {
    expect((error as Error).message).toMatch(/^shardPlan: shards: expected no more of them than there is to be split, got \d/);
    return null;
  }
}

describe('a plan', () => {
  it('has each row of each parameter once, in a shard about as large as the others', () => {
    fc.assert(
      fc.property(model, shards, (model, shards) => {
        const plan = planOf(model, { shards });
        if (!plan) return;
        const held = new Map(Object.entries(model).map(([name, { dims }]) => [name, new Set([...Array(dims[0] ?? 1).keys()])]));
        for (const { name, of = name, rows: [from, to] = [0, model[of]!.dims[0] ?? 1] } of plan.shards.flat()) {
          for (let row = from; row < to; row++) expect(held.get(of)!.delete(row)).toBe(true);
        }
        expect([...held.values()].every((rows) => rows.size === 0)).toBe(true);

        const sizes = Object.values(model).map(({ dims }) => sizeOf(dims));
        const fair = sizes.reduce((sum, size) => sum + size, 0) / shards;
        const row = Math.max(...Object.values(model).map(({ dims }) => sizeOf(dims.slice(1))));
        // Whole parameters are no larger than 1.1 of a fair share, and go where there is least; cuts are half a row off, or snap.
        expect(Math.max(...loadsOf(plan))).toBeLessThanOrEqual(2.1 * fair + row);
      }),
      { numRuns: 500 },
    );
  });

  it('is near to a fair split of large tables and small ones', () => {
    const plan = shardPlan(
      { a: { dims: [100_000, 64] }, b: { dims: [30_000, 64] }, c: { dims: [512, 512] }, d: { dims: [7] } },
      { shards: 4 },
    );
    const loads = loadsOf(plan);
    const fair = loads.reduce((sum, load) => sum + load, 0) / 4;
    for (const load of loads) expect(Math.abs(load / fair - 1)).toBeLessThan(0.05);
  });

  it('keeps parameters whole that are about a fair share', () => {
    const plan = shardPlan({ a: { dims: [105] }, b: { dims: [95] } }, { shards: 2 });
    expect(plan.shards).toEqual([[{ name: 'a', dims: [105] }], [{ name: 'b', dims: [95] }]]);
    const two = shardPlan({ a: { dims: [200, 3] }, b: { dims: [201, 3] } }, { shards: 4 });
    expect(two.shards.flat().map(({ name }) => name)).toEqual(['a[0:100]', 'a[100:200]', 'b[0:101]', 'b[101:201]']);
  });

  it('cuts nothing where it is not to', () => {
    fc.assert(
      fc.property(model, shards, (model, shards) => {
        const plan = planOf(model, { shards, cut: false });
        const names = plan?.shards.flat().map(({ name }) => name) ?? Object.keys(model);
        expect(names.toSorted()).toEqual(Object.keys(model).toSorted());
      }),
    );
  });

  it('is the same of parameters as of their shapes, each time, and when it was JSON', () => {
    fc.assert(
      fc.property(model, shards, (model, shards) => {
        const plan = planOf(model, { shards });
        if (!plan) return;
        expect(shardPlan(Parameters.create(model), { shards })).toEqual(plan);
        expect(readShardPlan(JSON.parse(JSON.stringify(plan)))).toEqual(plan);
      }),
      { numRuns: 20 },
    );
  });

  it.each([
    [{ shards: 0 }, 'shardPlan: shards: expected >=1, got 0'],
    [{ shards: 1.5 }, 'shardPlan: shards: expected a whole number, got 1.5'],
    [{ shards: 2000 }, 'shardPlan: shards: expected <=1024, got 2000'],
    [{ shards: 2, cuts: true }, 'shardPlan: cuts: expected no such option, got "cuts"'],
    [{ shards: 4 }, 'shardPlan: shards: expected no more of them than there is to be split, got 4, of which some hold nothing'],
  ])('with %j is refused', (options, message) => {
    expect(() => shardPlan({ a: { dims: [2, 5] }, b: { dims: [] } }, options as { shards: number })).toThrow(message);
  });

  it('refuses a parameter whose name is one of rows', () => {
    expect(() => shardPlan({ 'a[0:1]': { dims: [2] } }, { shards: 1 })).toThrow(
      'shard plan: parameters.0.name: expected a name that is not one of rows, as "emb[0:1000]" is, got "a[0:1]"',
    );
  });
});

describe('a plan of others', () => {
  const parameters = [
    { name: 'emb', dims: [10, 2] },
    { name: 'bias', dims: [3] },
    { name: 'scale', dims: [] },
  ];
  const rest = [
    { name: 'bias', dims: [3] },
    { name: 'scale', dims: [] },
  ];
  const rows = (from: number, to: number) => ({ name: `emb[${from}:${to}]`, dims: [to - from, 2], of: 'emb', rows: [from, to] });

  it('is read', () => {
    const plan = { parameters, shards: [[rows(4, 10), rows(0, 4)], rest] };
    expect(readShardPlan(plan)).toEqual(plan);
  });

  it.each([
    ['nothing', null, 'shard plan: expected Object, got null'],
    ['text', '{}', 'shard plan: expected Object, got "{}"'],
    ['no shards', { parameters, shards: [] }, 'shard plan: shards: expected at least one shard, got 0'],
    ['no parameters', { parameters: [], shards: [[]] }, 'shard plan: parameters: expected at least one parameter, got 0'],
    [
      'an empty shard',
      { parameters, shards: [[rows(0, 10), ...rest], []] },
      'shards.1: expected at least one parameter in each shard, got none',
    ],
    ['another format', { parameters, shards: [rest], version: 2 }, 'shard plan: version: expected no such option, got "version"'],
    [
      'a parameter twice',
      { parameters: [...parameters, parameters[0]], shards: [rest] },
      'parameters.3.name: expected each parameter once, got "emb" twice',
    ],
    [
      'an unknown part',
      { parameters, shards: [[{ name: 'w', dims: [] }]] },
      'shards.0.0: expected a part of one of the parameters (emb, bias, scale), got "w"',
    ],
    ['a parameter in no shard', { parameters, shards: [rest] }, 'shard plan: "emb": expected it in a shard, got it in none'],
    [
      'a parameter in two',
      { parameters, shards: [[rows(0, 10), ...rest], rest] },
      'shard plan: "bias": expected its row 0 in one shard, got it in two',
    ],
    [
      'a gap',
      { parameters, shards: [[rows(0, 4), rows(5, 10)], rest] },
      'shard plan: "emb": expected its row 4 in one shard, got it in none',
    ],
    [
      'an overlap',
      { parameters, shards: [[rows(0, 4), rows(3, 10)], rest] },
      'shard plan: "emb": expected its row 3 in one shard, got it in two',
    ],
    [
      'too few rows',
      { parameters, shards: [[rows(0, 4)], rest] },
      'shard plan: "emb": expected its 10 rows in one shard each, got up to 4',
    ],
    [
      'too many rows',
      { parameters, shards: [[rows(0, 11)], rest] },
      'shards.0.0: expected rows of "emb" [from, to) within [0, 10), got [0,11]',
    ],
    ['rows backwards', { parameters, shards: [[{ ...rows(0, 4), rows: [4, 0] }], rest] }, 'within [0, 10), got [4,0]'],
    [
      'rows that are no numbers',
      { parameters, shards: [[{ ...rows(0, 4), rows: ['0', 4] }], rest] },
      'shards.0.0.rows.0: expected number, got "0"',
    ],
    [
      'rows of a scalar',
      { parameters, shards: [[{ name: 'scale[0:1]', dims: [1], of: 'scale', rows: [0, 1] }], rest] },
      'within [0, 0), got [0,1]',
    ],
    ['another name', { parameters, shards: [[{ ...rows(0, 4), name: 'emb' }], rest] }, 'expected the name "emb[0:4]", got "emb"'],
    [
      'other dims',
      { parameters, shards: [[{ ...rows(0, 4), dims: [4, 3] }], rest] },
      'expected dims [4,2] for "emb[0:4]", got [4,3]',
    ],
    ['other dims of a whole', { parameters, shards: [[{ name: 'bias', dims: [4] }]] }, 'expected dims [3] for "bias", got [4]'],
    [
      'rows of nothing',
      { parameters, shards: [[{ name: 'bias', dims: [3], rows: [0, 3] }]] },
      'expected `of` and `rows` together, got rows [0,3]',
    ],
    [
      'a size beyond all',
      { parameters: [{ name: 'w', dims: [2 ** 60] }], shards: [rest] },
      'parameters.0.dims.0: expected a whole number',
    ],
  ])('with %s is refused', (_, plan, message) => {
    expect(() => readShardPlan(plan)).toThrow(message);
  });
});
