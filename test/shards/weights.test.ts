import { joinShards, Parameters, shardParameters, shardPlan } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { wave } from '../stages/gradients.ts';

const model = () =>
  Parameters.create(
    {
      emb: { dims: [100, 3], data: wave(300) },
      bias: { dims: [4], data: wave(4, 1) },
      scale: { dims: [], data: [7] },
      none: { dims: [0, 3] },
    },
    { version: 12 },
  );
const plan = shardPlan(model(), { shards: 3 });
const copied = (params: Parameters) => Object.fromEntries([...params].map(({ name, data }) => [name, data.slice()]));

describe('weights', () => {
  it('that are split are the model’s, with its version', () => {
    const parts = plan.shards.map((_, shard) => shardParameters(plan, shard, model()));
    expect(parts.map(({ names }) => names)).toEqual(plan.shards.map((own) => own.map(({ name }) => name)));
    expect(parts.map(({ version, shardOf }) => [version, shardOf])).toEqual(
      parts.map(() => [12, ['emb', 'bias', 'scale', 'none']]),
    );
    const row = plan.shards[1]!.find(({ of }) => of === 'emb')!;
    expect(parts[1]!.get(row.name).data).toEqual(wave(300).subarray(3 * row.rows![0], 3 * row.rows![1]));
    expect(parts[1]!.twin().shardOf).toEqual(parts[1]!.shardOf);
  });

  it('that are joined are what was split', () => {
    const parts = plan.shards.map((_, shard) => shardParameters(plan, shard, copied(model())));
    expect(joinShards(plan, parts)).toEqual(copied(model()));
    expect(joinShards(JSON.parse(JSON.stringify(plan)), parts.map(copied))).toEqual(copied(model()));
  });

  it('of one shard are the whole model', () => {
    expect(shardParameters(shardPlan(model(), { shards: 1 }), 0, model()).shardOf).toBeNull();
  });

  it.each([-1, 3, 0.5])('of shard %d of three are refused', (index) => {
    expect(() => shardParameters(plan, index, model())).toThrow(`shardParameters: index: expected 0 to 2, got ${index}`);
  });

  it('of another model are refused with all that differs', () => {
    const other = Parameters.create({
      emb: { dims: [3, 100] },
      bias: { dims: [4] },
      scale: { dims: [] },
      none: { dims: [0, 3] },
    });
    expect(() => shardParameters(plan, 0, other)).toThrow('"emb" has dims [100,3] in the plan, got [3,100]');
    expect(() => shardParameters(plan, 0, { emb: wave(300), bias: wave(5), scale: wave(1), w: wave(1) })).toThrow(
      '"w" is not in the plan (there are emb, bias, scale, none); "bias" has 4 values, got 5; "none" is missing',
    );
  });

  it('are joined of all shards, of one version, as the plan has them', () => {
    const parts = plan.shards.map((_, shard) => shardParameters(plan, shard, model()));
    expect(() => joinShards(plan, parts.slice(1))).toThrow('joinShards: parts: expected 3, one for each shard, got 2');
    expect(() => joinShards(plan, parts.toReversed())).toThrow(/is missing in shard 0/);
    parts[1]!.load({});
    expect(() => joinShards(plan, parts)).toThrow('their version is 12 in shard 0, 13 in shard 1, 12 in shard 2');
  });
});
