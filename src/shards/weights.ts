import { assertNoDifferences } from '../errors.ts';
import { expectOption } from '../options.ts';
import { Parameters } from '../params/parameters.ts';
import type { Weights } from '../params/weights-reader.ts';
import { type CheckedPlan, checkedPlan, type ShardPlan, type Whole } from './plan.ts';

/**
 * The parameters of one shard, their weights copied from those of the whole model. Scans take them as they take others, with
 * the options that the whole model would have: settings and groups by name or pattern count for rows of a parameter, too.
 *
 * @example
 * const plan = shardPlan(params, { shards: 4 });
 * fromTransport(transport, { topic: 'gradients' }).pipe(clipByGlobalNorm(1), adam(shardParameters(plan, 0, params)));
 */
export function shardParameters(plan: ShardPlan, index: number, full: Parameters | Weights): Parameters {
  const checked = checkedPlan(plan);
  const { shards, parameters } = checked.plan;
  const last = shards.length - 1;
  expectOption(Number.isInteger(index) && index >= 0 && index <= last, 'shardParameters: index', `0 to ${last}`, index);
  const weights = full instanceof Parameters ? full.latest : full;
  assertNoDifferences(differencesOf(checked, full instanceof Parameters ? dimsOf(full) : null, weights));
  const specs = shards[index]!.map(({ name, dims, of = name, rows }) => {
    const whole = checked.wholes.get(of)!;
    const [from, to] = rows ?? [0, whole.rows];
    return [name, { dims, data: weights[of]!.subarray(from * whole.width, to * whole.width) }] as const;
  });
  return Parameters.create(Object.fromEntries(specs), {
    version: full instanceof Parameters ? full.version : 0,
    shardOf: shards.length === 1 ? null : parameters.map(({ name }) => name),
  });
}

/** The weights of the whole model by name, copied from those of its shards, in their order: of parameters the newest. */
export function joinShards(plan: ShardPlan, parts: readonly (Parameters | Weights)[]): Record<string, Float32Array> {
  const { plan: checked, wholes } = checkedPlan(plan);
  const { length } = checked.shards;
  expectOption(parts.length === length, 'joinShards: parts', `${length}, one for each shard`, parts.length);
  const versions = parts.flatMap((part, i) => (part instanceof Parameters ? [`${part.version} in shard ${i}`] : []));
  const same = new Set(parts.flatMap((part) => (part instanceof Parameters ? [part.version] : []))).size <= 1;
  assertNoDifferences(same ? [] : [`their version is ${versions.join(', ')}`]);
  const weights = parts.map((part) => (part instanceof Parameters ? part.latest : part));
  assertNoDifferences(
    [...wholes.values()].flatMap(({ pieces, width }) =>
      pieces.flatMap(({ name, shard, from, to }) => misfit(name, weights[shard]!, (to - from) * width, ` in shard ${shard}`)),
    ),
  );
  return Object.fromEntries([...wholes].map(([name, whole]) => [name, joined(whole, weights)]));
}

function joined({ rows, width, pieces }: Whole, weights: readonly Weights[]): Float32Array {
  const all = new Float32Array(rows * width);
  for (const { shard, name, from } of pieces) all.set(weights[shard]![name]!, from * width);
  return all;
}

function dimsOf(params: Parameters): Map<string, readonly number[]> {
  return new Map([...params].map(({ name, dims }) => [name, dims]));
}

/** In what a whole model is another than that of the plan. */
function differencesOf({ wholes }: CheckedPlan, dims: ReadonlyMap<string, readonly number[]> | null, weights: Weights): string[] {
  const unknown = Object.keys(weights).filter((name) => !wholes.has(name));
  return [
    ...unknown.map((name) => `"${name}" is not in the plan (there are ${[...wholes.keys()].join(', ')})`),
    ...[...wholes].flatMap(([name, { dims: planned, rows, width }]) => {
      const got = dims?.get(name);
      if (got && String(got) !== String(planned)) return [`"${name}" has dims [${planned}] in the plan, got [${got}]`];
      return misfit(name, weights, rows * width, '');
    }),
  ];
}

function misfit(name: string, weights: Weights, length: number, where: string): string[] {
  const got = Object.hasOwn(weights, name) ? weights[name] : undefined;
  if (!got) return [`"${name}" is missing${where}`];
  return got.length === length ? [] : [`"${name}" has ${length} values${where}, got ${got.length}`];
}
