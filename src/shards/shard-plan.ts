import * as v from 'valibot';
import { expectOption, parseOptions } from '../options.ts';
import type { ParameterSpec } from '../params/layout.ts';
import { Parameters } from '../params/parameters.ts';
import { partName } from '../part-name.ts';
import { checkedPlan, MOST_SHARDS, type ShardPart, type ShardPlan } from './plan.ts';

const schema = v.strictObject({
  shards: v.pipe(v.number(), v.safeInteger('a whole number'), v.minValue(1), v.maxValue(MOST_SHARDS)),
  cut: v.optional(v.boolean(), true),
});

/** What a parameter may exceed a fair share by, as a share of that, before it is cut. */
const OVER = 0.1;
/** How near a cut may come to the end of a parameter, as a share of a fair share, before it goes there. */
const NEAR = 0.05;

interface Sized {
  readonly index: number;
  readonly name: string;
  readonly dims: readonly number[];
  readonly length: number;
}

/**
 * Splits a model's parameters over a number of shards of about equal size: whole ones, the largest first, each to where
 * least is. Of those that are larger than a fair share, shards get rows along the first axis; with `cut: false` all stay whole, as
 * optimizers need them that do not go element by element. The same model gives the same plan.
 *
 * @example
 * const plan = shardPlan({ emb: { dims: [100_000, 64] }, bias: { dims: [64] } }, { shards: 4 });
 */
export function shardPlan(
  model: Parameters | Readonly<Record<string, Pick<ParameterSpec, 'dims'>>>,
  options: { readonly shards: number; readonly cut?: boolean },
): ShardPlan {
  const { shards, cut } = parseOptions(schema, options, 'shardPlan');
  const named = model instanceof Parameters ? [...model] : Object.entries(model).map(([name, { dims }]) => ({ name, dims }));
  const parameters = named.map(({ name, dims }) => ({ name, dims: [...dims] }));
  const sized = parameters.map(
    (parameter, index): Sized => ({ ...parameter, index, length: parameter.dims.reduce((size, dim) => size * dim, 1) }),
  );
  const fair = sized.reduce((sum, { length }) => sum + length, 0) / shards;
  const isLarge = ({ dims, length }: Sized): boolean => cut && dims.length > 0 && length > (1 + OVER) * fair;
  const parts = sized.map((): [number, ShardPart][] => []);
  const loads = new Array<number>(shards).fill(0);

  const whole = sized.filter((parameter) => !isLarge(parameter));
  for (const { index, name, dims, length } of whole.toSorted((a, b) => b.length - a.length)) {
    const shard = loads.indexOf(loads.reduce((least, load) => Math.min(least, load)));
    loads[shard]! += length;
    parts[index]!.push([shard, { name, dims }]);
  }
  for (const [{ index }, shard, part] of poured(sized.filter(isLarge), loads, fair)) parts[index]!.push([shard, part]);

  const held = loads.map((_, shard) => parts.flatMap((own) => own.flatMap(([at, part]) => (at === shard ? [part] : []))));
  const empty = held.findIndex((own) => own.every(({ dims }) => dims.includes(0)));
  expectOption(
    empty === -1,
    'shardPlan: shards',
    'no more of them than there is to be split',
    `${shards}, of which some hold nothing`,
  );
  return checkedPlan({ parameters, shards: held }).plan;
}

/** Pours the rows of large parameters into the room that shards have left, one after the other. */
function poured(large: readonly Sized[], loads: readonly number[], fair: number): [Sized, number, ShardPart][] {
  const total = large.reduce((sum, { length }) => sum + length, 0);
  const rooms = loads.map((load) => Math.max(0, fair - load));
  const scale = total / rooms.reduce((sum, room) => sum + room, 0);
  const parts: [Sized, number, ShardPart][] = [];
  let begin = 0;
  for (const parameter of large) {
    const { name, dims, length } = parameter;
    const rows = dims[0]!;
    let from = 0;
    let room = 0;
    for (const [shard, own] of rooms.entries()) {
      room += own * scale;
      const to = shard === rooms.length - 1 ? rows : rowAt(room - begin, length, rows, NEAR * fair);
      if (to <= from) continue;
      const part = { name: partName(name, from, to), dims: [to - from, ...dims.slice(1)], of: name, rows: [from, to] } as const;
      parts.push([parameter, shard, to - from === rows ? { name, dims } : part]);
      from = to;
    }
    begin += length;
  }
  return parts;
}

/** The row at which a parameter is cut so that about `elements` are in front; none or all where that is as near. */
function rowAt(elements: number, length: number, rows: number, near: number): number {
  if (elements <= near) return 0;
  return elements >= length - near ? rows : Math.round((elements * rows) / length);
}
