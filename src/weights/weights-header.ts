import { parseDictionary, serializeDictionary, Token } from 'structured-headers';

/** What a record of weights says of itself. */
export interface WeightsFacts {
  /** Of the weights that are there once all parts of it are. */
  readonly version: number;
  /** The course of training that versions count; undefined where the publisher knows of none. */
  readonly course?: string | undefined;
  /** Counts the publications of a shard, rising by one. */
  readonly sequence: number;
  /** All of the shard's weights, or what changed since the publication `base`. */
  readonly kind: 'snapshot' | 'delta';
  readonly base: number | undefined;
  readonly shard: number;
  readonly shards: number;
  readonly part: number;
  readonly parts: number;
  /** Of the value. */
  readonly crc32: number;
}

const MOST_SHARDS = 1024;
const MOST_PARTS = 65_536;
const MOST_COURSE_CHARACTERS = 100;

/** Writes a `ce_weights` header: a dictionary of RFC 9651. */
export function writeWeightsHeader({ kind, base, course, ...numbers }: WeightsFacts): string {
  const { version, sequence, ...rest } = numbers;
  const chain = base === undefined ? { kind: new Token(kind) } : { kind: new Token(kind), base };
  return serializeDictionary({ version, sequence, ...chain, ...rest, ...(course === undefined ? {} : { course }) });
}

/** Reads a `ce_weights` header. Members that it does not know are left alone. Returns what is wrong as words. */
export function parseWeightsHeader(text: string): { facts: WeightsFacts } | { problem: string } {
  let dictionary: ReturnType<typeof parseDictionary>;
  try {
    dictionary = parseDictionary(text);
  } catch (error) {
    return { problem: (error as Error).message };
  }
  const wrong: string[] = [];
  const number = (key: string, least: number, most: number): number => {
    const value = dictionary.get(key)?.[0];
    if (Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most) return value as number;
    wrong.push(`${key} is no whole number from ${least} to ${most}`);
    return least;
  };
  const kind = String(dictionary.get('kind')?.[0]);
  if (kind !== 'snapshot' && kind !== 'delta') return { problem: 'kind is neither snapshot nor delta' };
  const sequence = number('sequence', 0, Number.MAX_SAFE_INTEGER);
  const shards = number('shards', 1, MOST_SHARDS);
  const parts = number('parts', 1, MOST_PARTS);
  const course = dictionary.get('course')?.[0];
  const isCourse = typeof course === 'string' && course !== '' && course.length <= MOST_COURSE_CHARACTERS;
  if (course !== undefined && !isCourse) wrong.push(`course is no text of at most ${MOST_COURSE_CHARACTERS} characters`);
  const facts: WeightsFacts = {
    version: number('version', 0, Number.MAX_SAFE_INTEGER),
    sequence,
    kind,
    base: kind === 'delta' ? number('base', 0, sequence - 1) : undefined,
    shard: number('shard', 0, shards - 1),
    shards,
    part: number('part', 0, parts - 1),
    parts,
    crc32: number('crc32', 0, 2 ** 32 - 1),
    course: isCourse ? course : undefined,
  };
  return wrong.length > 0 ? { problem: wrong.join(', ') } : { facts };
}
