import { createHash } from 'node:crypto';
import { assertNoDifferences, RxgradError } from '../errors.ts';
import type { Position } from '../events.ts';
import { expectOption } from '../options.ts';
import { Parameters } from '../params/parameters.ts';
import { type Extent, patch } from '../params/patch.ts';
import { namedRows } from '../part-name.ts';
import { Chain } from './chain.ts';
import { denseElements, type Shapes, sizeOf } from './publication.ts';
import { rowNumbers, writePiece } from './weights-file.ts';
import type { WeightsFacts } from './weights-header.ts';

/** Which rows of which parameter a publisher's parameter is. */
interface Home {
  readonly name: string;
  readonly dims: readonly number[];
  readonly from: number;
}

/** A version that became visible. */
export interface Shown {
  readonly params: Parameters;
  readonly version: number;
  readonly step: Readonly<Record<string, unknown>>;
  readonly position: Position;
}

/** How many divisions into shards are followed at once, while a topic holds more than one. */
const MOST_DIVISIONS = 4;

/**
 * A replica of a model's weights: follows each shard's chain of publications, and applies them up to the newest version that
 * all shards have. Nothing here knows of streams.
 */
export class Replica {
  readonly #topic: string;
  readonly #maxBytes: number;
  readonly #divisions = new Map<number, readonly Chain[]>();
  readonly #courses: ReadonlyMap<string, string>;
  #params: Parameters | null;
  #visible: number;
  /** The division that the visible version is of, and the one that was heard of last. */
  #owner = 0;
  #latest = 0;

  /** `before` is the replica that held the same parameters: only what follows from its weights is shown. */
  constructor(topic: string, into: Parameters | null, maxBytes: number, before: Replica | null = null) {
    this.#topic = topic;
    this.#visible = before?.visible ?? -1;
    this.#courses = before?.courses() ?? new Map();
    this.#params = into;
    this.#maxBytes = maxBytes;
  }

  /** The version that is shown; −1 before the first. */
  get visible(): number {
    return this.#visible;
  }

  /** What is followed, by division and shard. */
  courses(): Map<string, string> {
    const courses = new Map(this.#courses);
    for (const [shards, chains] of this.#divisions) {
      for (const [shard, { course }] of chains.entries()) if (course !== null) courses.set(`${shards}/${shard}`, course);
    }
    return courses;
  }

  /** Whether changes come that lead nowhere without a snapshot. */
  get isBroken(): boolean {
    return this.#divisions.get(this.#latest)?.some((chain) => chain.isBroken) ?? false;
  }

  /**
   * Takes a part in; tells why it is of no use, if so. What is of another course of training than the weights before it is not; unless
   * it is one that the topic held already when it began to be read (`isOld`): then the last course is the one to follow.
   */
  add(facts: WeightsFacts, value: Uint8Array, position: Position, isOld: boolean): ReturnType<Chain['add']> {
    const chain = this.#chainOf(facts);
    const expected = chain.course;
    if (!chain.follows(facts)) {
      if (!isOld || facts.kind !== 'snapshot' || expected === null) return otherWeights(facts, position, expected);
      // Shards of two courses are never put together.
      for (const other of this.#divisions.get(facts.shards)!) other.leave();
      this.#visible = -1;
      chain.follows(facts);
    }
    return chain.add(facts, value, position) ?? this.#shorten(position);
  }

  /** Notes that a part came to nothing; tells whether that matters. */
  refuse(facts: WeightsFacts, error: NonNullable<ReturnType<Chain['add']>>): typeof error | null {
    const chain = this.#chainOf(facts);
    // What belongs to another course of training leaves no gap in this one.
    if (chain.course !== null && facts.course !== undefined && facts.course !== chain.course) return error;
    return chain.refuse(error, facts.sequence);
  }

  /** Applies what has come, if that makes a newer version. */
  async advance(): Promise<Shown | null> {
    for (const [shards, chains] of this.#divisions) {
      const version = newestInAll(chains);
      if (version === null || version <= this.#visible) continue;
      const shown = await this.#apply(chains, version);
      this.#visible = version;
      this.#owner = shards;
      for (const chain of chains) chain.dropUpTo(version);
      // What follows elsewhere follows something else.
      for (const [others, stale] of this.#divisions) if (others !== shards) for (const chain of stale) chain.reset();
      return shown;
    }
    return null;
  }

  #chainOf({ shards, shard }: WeightsFacts): Chain {
    const known = this.#divisions.get(shards) ?? this.#newChains(shards);
    this.#divisions.set(shards, known);
    this.#latest = shards;
    if (this.#divisions.size > MOST_DIVISIONS) {
      const oldest = [...this.#divisions.keys()].find((division) => division !== shards && division !== this.#owner);
      this.#divisions.delete(oldest!);
    }
    return known[shard]!;
  }

  #newChains(shards: number): Chain[] {
    return Array.from({ length: shards }, (_, shard) => {
      const chain = new Chain(this.#maxBytes);
      const course = this.#courses.get(`${shards}/${shard}`);
      if (course !== undefined) chain.follow(course);
      return chain;
    });
  }

  /** Keeps what waits below the limit: of the shard that is furthest ahead what is older than its newest snapshot goes, or all. */
  #shorten({ topic, partition, offset }: Position): ReturnType<Chain['add']> {
    const all = [...this.#divisions.values()].flat();
    // What waits is up to twice a model: a snapshot, and changes that come to less than another.
    const most = 2 * this.#maxBytes;
    let isLost = false;
    while (all.reduce((sum, { bytes }) => sum + bytes, 0) > most) {
      const largest = all.reduce((one, other) => (other.bytes > one.bytes ? other : one));
      isLost = !largest.shorten() || isLost;
    }
    if (!isLost) return null;
    const where = `${topic}/${partition}@${offset}`;
    return new RxgradError('undecodable', { where, expected: `at most ${most} bytes to wait for other shards`, got: 'more' });
  }

  async #apply(chains: readonly Chain[], version: number): Promise<Shown> {
    const taken = chains.map(({ queue }) => {
      const upTo = queue.slice(0, queue.findIndex(({ facts }) => facts.version === version) + 1);
      return upTo.slice(
        Math.max(
          0,
          upTo.findLastIndex(({ facts }) => facts.kind === 'snapshot'),
        ),
      );
    });
    const homes = taken.map((publications) => homesOf(publications.at(-1)!.shapes, chains.length));
    const specs = specsOf(homes, this.#topic);
    const bytes = Object.values(specs).reduce((sum, { dims }) => sum + 4 * sizeOf(dims), 0);
    expectOption(bytes <= this.#maxBytes, 'weightsFrom: maxBytes', `${bytes}, which the model has`, this.#maxBytes);
    if (this.#params) assertSame(this.#params, specs);
    const params = this.#params ?? Parameters.create(specs);
    this.#params = params;
    params.course = courseOf(chains) ?? params.course;
    const indices = new Map(params.names.map((name, index) => [name, index]));
    const writes = taken.flatMap((publications, shard) =>
      publications.flatMap(({ files }) =>
        files.flatMap(({ pieces, payload }) =>
          pieces.map((piece) => {
            const home = homes[shard]!.get(piece.name)!;
            const base = home.from * sizeOf(home.dims.slice(1));
            const isAll = denseElements(files, piece.name) === sizeOf(specs[home.name]!.dims);
            return { index: indices.get(home.name)!, home, base, isAll, piece, payload };
          }),
        ),
      ),
    );
    const extents = new Map<number, Extent>();
    const rows = new Map<number, number[]>();
    for (const { index, home, isAll, piece, payload } of writes) {
      if (!piece.rows) {
        if (isAll || extents.get(index) !== 'all') extents.set(index, isAll ? 'all' : 'part');
        continue;
      }
      const known = rows.get(index) ?? [];
      for (const row of rowNumbers(piece, payload)) known.push(home.from + row);
      rows.set(index, known);
    }
    for (const [index, numbers] of rows) if (!extents.has(index)) extents.set(index, Int32Array.from(numbers));
    const first = taken[0]!.at(-1)!;
    const step = first.files.find((file) => Object.keys(file.step).length > 0)?.step ?? {};
    const facts = { version, madeAtMs: numberIn(step, 'madeAtMs') ?? Date.now(), position: placeIn(step) ?? first.position };
    await patch(params, facts, extents, (addressOf) => {
      for (const { index, base, piece, payload } of writes) writePiece(params.arena, addressOf(index), base, piece, payload);
    });
    return { params, version, step, position: first.position };
  }
}

function otherWeights({ course, version }: WeightsFacts, { topic, partition, offset }: Position, expected: string | null) {
  const where = `${topic}/${partition}@${offset}`;
  return new RxgradError('otherWeights', {
    where,
    expected: expected ?? 'the newest',
    version,
    got: course ?? 'none',
  });
}

/** Of several shards, which each have their own, what follows from all of them. */
function courseOf(chains: readonly Chain[]): string | null {
  const courses = chains.map(({ course }) => course);
  if (courses.includes(null) || courses.length === 1) return courses[0] ?? null;
  return createHash('sha256').update(courses.join('\n')).digest('hex');
}

function numberIn(step: Shown['step'], key: string): number | undefined {
  const value = step[key];
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
}

/** The last event that the publisher's weights contain, where it tells. */
function placeIn(step: Shown['step']): Position | null {
  const { topic } = step;
  const [partition, offset] = [numberIn(step, 'partition'), numberIn(step, 'offset')];
  return typeof topic === 'string' && partition !== undefined && offset !== undefined ? { topic, partition, offset } : null;
}

/** The newest version that all chains have, or null. */
function newestInAll(chains: readonly Chain[]): number | null {
  const [first, ...others] = chains;
  const newest = first!.queue.findLast(({ facts: { version } }) =>
    others.every(({ queue }) => queue.some(({ facts }) => facts.version === version)),
  );
  return newest?.facts.version ?? null;
}

/** Where a shard's parameters lie: `emb[0:1000]` is rows of `emb`, where there are several shards. */
function homesOf(shapes: Shapes, shards: number): Map<string, Home> {
  return new Map(
    [...shapes].map(([name, dims]) => {
      const rows = shards > 1 ? namedRows(name) : null;
      const isPart = rows !== null && rows.to - rows.from === dims[0];
      return [name, isPart ? { name: rows.parameter, dims, from: rows.from } : { name, dims, from: 0 }];
    }),
  );
}

/** The parameters that the shards' come to. Fails where rows are missing. */
function specsOf(homes: readonly Map<string, Home>[], topic: string): Record<string, { dims: readonly number[] }> {
  const specs: [string, { dims: readonly number[] }][] = [];
  const all = Map.groupBy(
    homes.flatMap((of) => [...of.values()]),
    ({ name }) => name,
  );
  const differences: string[] = [];
  for (const [name, parts] of all) {
    const sorted = parts.toSorted((a, b) => a.from - b.from);
    const [{ dims }] = sorted as [Home];
    let rows = 0;
    for (const part of sorted) {
      if (part.from !== rows) {
        const holders = rows > part.from ? 'two shards' : 'no shard';
        differences.push(`"${name}" on ${topic} has row ${Math.min(rows, part.from)} in ${holders}`);
      }
      if (String(part.dims.slice(1)) !== String(dims.slice(1))) {
        differences.push(`"${name}" on ${topic} has rows of [${part.dims.slice(1)}] and of [${dims.slice(1)}]`);
      }
      rows = part.from + (part.dims[0] ?? 1);
    }
    specs.push([name, { dims: sorted.length > 1 ? [rows, ...dims.slice(1)] : dims }]);
  }
  assertNoDifferences(differences);
  return Object.fromEntries(specs);
}

function assertSame(params: Parameters, specs: Readonly<Record<string, { readonly dims: readonly number[] }>>): void {
  assertNoDifferences([
    ...[...params].flatMap(({ name, dims }) => {
      const got = Object.hasOwn(specs, name) ? specs[name]!.dims : null;
      if (!got) return [`"${name}" [${dims}] is not on the topic`];
      return String(got) === String(dims) && got.length === dims.length
        ? []
        : [`"${name}" is [${got}] on the topic, [${dims}] here`];
    }),
    ...Object.entries(specs).flatMap(([name, { dims }]) =>
      params.has(name) ? [] : [`"${name}" [${dims}] is on the topic alone`],
    ),
  ]);
}
