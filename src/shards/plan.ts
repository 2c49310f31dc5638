import * as v from 'valibot';
import { expectOption, parseOptions } from '../options.ts';
import { partName, wholeName } from '../part-name.ts';

const name = v.pipe(v.string(), v.nonEmpty('a name'));
const size = v.pipe(v.number(), v.safeInteger('a whole number'), v.minValue(0));
const dims = v.pipe(v.array(size), v.maxLength(16, 'at most 16 sizes'));

export const MOST_SHARDS = 1024;

const partSchema = v.strictObject({
  name,
  dims,
  of: v.optional(name),
  rows: v.optional(v.strictTuple([size, size])),
});
const planSchema = v.strictObject({
  parameters: v.pipe(v.array(v.strictObject({ name, dims })), v.minLength(1, 'at least one parameter')),
  shards: v.pipe(
    v.array(v.array(partSchema)),
    v.minLength(1, 'at least one shard'),
    v.maxLength(MOST_SHARDS, `at most ${MOST_SHARDS} shards`),
  ),
});

/** A parameter that a shard holds: all of it, or the rows `[from, to)` along the first axis of the one that it is `of`. */
export interface ShardPart {
  /** The parameter's, or for rows of it as `emb[0:1000]`. */
  readonly name: string;
  readonly dims: readonly number[];
  readonly of?: string | undefined;
  readonly rows?: readonly [from: number, to: number] | undefined;
}

/** Which shard holds which part of a model: plain data, to be kept as JSON. */
export interface ShardPlan {
  /** All of the model's, in its order. */
  readonly parameters: readonly { readonly name: string; readonly dims: readonly number[] }[];
  /** For each shard what it holds. */
  readonly shards: readonly (readonly ShardPart[])[];
}

/** Rows `[from, to)` of a parameter, and where they are; of one without axes its one element. */
export interface Piece {
  readonly shard: number;
  readonly name: string;
  readonly dims: readonly number[];
  readonly from: number;
  readonly to: number;
}

/** A parameter of a plan, and its pieces in the order of their rows. */
export interface Whole {
  readonly dims: readonly number[];
  readonly rows: number;
  /** Elements of a row. */
  readonly width: number;
  readonly pieces: readonly Piece[];
}

/** A plan that was checked. */
export interface CheckedPlan {
  readonly plan: ShardPlan;
  readonly wholes: ReadonlyMap<string, Whole>;
}

const known = new WeakMap<object, CheckedPlan>();

/**
 * Reads a plan that was kept as JSON. Fails where it is none, or where its parts are not each parameter once.
 *
 * @example
 * const plan = readShardPlan(JSON.parse(JSON.stringify(shardPlan(params, { shards: 4 }))));
 */
export function readShardPlan(plan: unknown): ShardPlan {
  return checkedPlan(plan).plan;
}

/** As {@link readShardPlan}, with what is looked up in it. A plan is checked once; what it is changed to later does not count. */
export function checkedPlan(plan: unknown): CheckedPlan {
  const key = typeof plan === 'object' ? plan : null;
  const before = key && known.get(key);
  if (before) return before;
  const parsed: ShardPlan = parseOptions(planSchema, plan, 'shard plan');
  const checked = { plan: parsed, wholes: wholesOf(parsed) };
  known.set(parsed, checked);
  if (key) known.set(key, checked);
  return checked;
}

function wholesOf({ parameters, shards }: ShardPlan): ReadonlyMap<string, Whole> {
  const pieces = new Map<string, Piece[]>();
  for (const [i, { name }] of parameters.entries()) {
    const where = `shard plan: parameters.${i}.name`;
    expectOption(!pieces.has(name), where, 'each parameter once', `"${name}" twice`);
    expectOption(wholeName(name) === name, where, 'a name that is not one of rows, as "emb[0:1000]" is', `"${name}"`);
    pieces.set(name, []);
  }
  const dimsOf = new Map(parameters.map(({ name, dims }) => [name, dims]));
  for (const [shard, parts] of shards.entries()) {
    expectOption(parts.length > 0, `shard plan: shards.${shard}`, 'at least one parameter in each shard', 'none');
    for (const [i, part] of parts.entries()) {
      const where = `shard plan: shards.${shard}.${i}`;
      const of = part.of ?? part.name;
      const dims = dimsOf.get(of);
      expectOption(
        dims !== undefined,
        where,
        `a part of one of the parameters (${parameters.map(({ name }) => name).join(', ')})`,
        `"${of}"`,
      );
      pieces.get(of)!.push(pieceOf(part, dims, shard, where));
    }
  }
  return new Map(parameters.map(({ name, dims }) => [name, wholeOf(name, dims, pieces.get(name)!)]));
}

function pieceOf({ name, dims, of, rows }: ShardPart, whole: readonly number[], shard: number, where: string): Piece {
  expectOption((of === undefined) === (rows === undefined), where, '`of` and `rows` together', of ?? `rows [${rows}]`);
  const [from, to] = rows ?? [0, rowsOf(whole)];
  if (rows) {
    const last = whole[0] ?? 0;
    expectOption(from < to && to <= last, where, `rows of "${of}" [from, to) within [0, ${last})`, `[${rows}]`);
    expectOption(name === partName(of!, from, to), where, `the name "${partName(of!, from, to)}"`, `"${name}"`);
  }
  const expected = rows ? [to - from, ...whole.slice(1)] : whole;
  expectOption(String(dims) === String(expected), where, `dims [${expected}] for "${name}"`, `[${dims}]`);
  return { shard, name, dims, from, to };
}

function wholeOf(name: string, dims: readonly number[], pieces: Piece[]): Whole {
  const sorted = pieces.toSorted((a, b) => a.from - b.from);
  const rows = rowsOf(dims);
  const where = `shard plan: "${name}"`;
  expectOption(sorted.length > 0, where, 'it in a shard', 'it in none');
  let end = 0;
  for (const { from, to } of sorted) {
    expectOption(from === end, where, `its row ${Math.min(from, end)} in one shard`, from < end ? 'it in two' : 'it in none');
    end = to;
  }
  expectOption(end === rows && (rows > 0 || sorted.length === 1), where, `its ${rows} rows in one shard each`, `up to ${end}`);
  return { dims, rows, width: dims.slice(1).reduce((product, dim) => product * dim, 1), pieces: sorted };
}

/** Rows along the first axis; without axes, one. */
function rowsOf(dims: readonly number[]): number {
  return dims[0] ?? 1;
}
