import * as v from 'valibot';
import { count } from '../options.ts';
import type { LogRecord } from '../sources/transport.ts';

/** What is known of a checkpoint that a topic holds. */
export interface Held {
  readonly version: number;
  readonly id: string;
  readonly bytes: number;
  readonly chunks: number;
  readonly savedAtMs: number;
}

/** A part of a file, as the topic holds it. */
export interface HeldPart {
  readonly key: string;
  readonly version: number;
  /** Of the file that it is a part of: each time that a version is written it gets another one. */
  readonly id: string;
  readonly number: number;
  readonly offset: number;
}

const headSchema = v.object({ id: v.string(), bytes: count, chunks: count });
/** Without an id in the key: what earlier versions of rxgrad have written, where the id is a header alone. */
const keyForm = /^([^/]+)\/(\d+)\/(?:(head|pin|removed)|(?:([^/]+)\/)?(\d+))$/;

/** The keys of the records of a model's checkpoints. */
export const keysOf = (model: string) => ({
  head: (version: number): string => `${model}/${version}/head`,
  pin: (version: number): string => `${model}/${version}/pin`,
  removed: (version: number): string => `${model}/${version}/removed`,
  part: (version: number, id: string, number: number): string => `${model}/${version}/${id}/${number}`,
});

/**
 * What was read of a topic of checkpoints. The order of the log alone decides what a record means, so that all who read it agree:
 * a `removed` record takes a version away unless it was pinned before, and a pin that comes after it is too late.
 */
export class CheckpointIndex {
  readonly heads = new Map<number, Held>();
  readonly pins = new Set<number>();
  /** Versions with a `removed` record, whatever came of it. */
  readonly marked = new Set<number>();
  /** Those that it took away, though not all of their records are gone: the id of their file. */
  readonly removed = new Map<number, string>();
  /** Versions of the courses that were set aside, by their number. */
  readonly abandoned = new Map<number, Map<number, Held>>();
  next = 0;
  readonly #parts = new Map<string, HeldPart>();
  readonly #model: string;
  readonly #prefix: string;

  constructor(model: string) {
    this.#model = model;
    this.#prefix = `${model}~abandoned-`;
  }

  /** The model under whose name a course is set aside. */
  courseName(number: number): string {
    return `${this.#prefix}${number}`;
  }

  note(record: LogRecord): void {
    const found = keyOf(record);
    if (!found) return;
    const { model, version, kind } = found;
    if (model !== this.#model) {
      if (kind === 'head') this.#noteAbandoned(model, version, record);
    } else if (kind === 'head') {
      this.removed.delete(version);
      noteHead(this.heads, version, record);
    } else if (kind === 'pin') {
      if (record.value) this.pins.add(version);
      else this.pins.delete(version);
    } else if (kind === 'removed') this.#noteRemoved(version, record);
    else if (record.value) this.#parts.set(found.key, partOf(found, record));
    else this.#parts.delete(found.key);
  }

  /** The part that a record is of a file of this model; null where it is none. */
  partOf(record: LogRecord): HeldPart | null {
    const found = record.value && keyOf(record);
    return found && found.model === this.#model && found.kind === null ? partOf(found, record) : null;
  }

  /** The parts that are held of a file. */
  partsOf(id: string): HeldPart[] {
    return [...this.#parts.values()].filter((part) => part.id === id);
  }

  /**
   * The keys of what nobody needs any more: of versions that were taken away, and of files without a head up to `version` that end before
   * the offset `before`. Where a file of `version` begins there, and is whole by now, a whole checkpoint was written since the last
   * record of such a file: its writer has died, or stood still for so long that it finds a newer version in its place, as it reads back.
   * What lies behind that offset may be under way.
   */
  leftovers(version: number, before: number): string[] {
    const keys = keysOf(this.#model);
    // What a pin came too late for is taken away once that is clear to whoever pinned it.
    const taken = [...this.removed].filter(([one]) => !this.pins.has(one));
    const needed = new Set([...this.heads.values()].map(({ id }) => id));
    for (const [one, id] of this.removed) if (this.pins.has(one)) needed.add(id);
    const gone = new Set(taken.map(([, id]) => id));
    const files = Map.groupBy(this.#parts.values(), ({ id }) => id);
    const parts = [...files].flatMap(([id, held]) => {
      if (needed.has(id)) return [];
      const isOver = held.every((part) => part.version <= version && part.offset < before);
      return isOver || gone.has(id) ? held.map(({ key }) => key) : [];
    });
    const marks = [...this.marked].filter((one) => !this.removed.has(one) || !this.pins.has(one));
    // The mark is the last to go: who dies before leaves it for the next one.
    return [...taken.map(([one]) => keys.head(one)), ...parts, ...marks.map(keys.removed)];
  }

  #noteRemoved(version: number, { value }: LogRecord): void {
    if (!value) {
      this.marked.delete(version);
      return;
    }
    this.marked.add(version);
    const head = this.heads.get(version);
    if (!head || this.pins.has(version)) return;
    this.heads.delete(version);
    this.removed.set(version, head.id);
  }

  #noteAbandoned(model: string, version: number, record: LogRecord): void {
    const number = Number(model.slice(this.#prefix.length));
    if (model !== this.courseName(number) || !Number.isSafeInteger(number)) return;
    const course = this.abandoned.get(number) ?? new Map<number, Held>();
    this.abandoned.set(number, course);
    noteHead(course, version, record);
  }
}

/** The value of a head, as it is read again. */
export function encodedHead({ id, bytes, chunks }: Pick<Held, 'id' | 'bytes' | 'chunks'>): Uint8Array {
  return Buffer.from(JSON.stringify({ id, bytes, chunks }));
}

interface RecordKey {
  readonly key: string;
  readonly model: string;
  readonly version: number;
  /** Null of a part. */
  readonly kind: 'head' | 'pin' | 'removed' | null;
  readonly id: string | null;
  readonly number: number;
}

function keyOf(record: LogRecord): RecordKey | null {
  const key = Buffer.from(record.key ?? []).toString();
  const [, model, version, kind = null, id = null, number] = keyForm.exec(key) ?? [];
  if (model === undefined) return null;
  return { key, model, version: Number(version), kind: kind as RecordKey['kind'], id, number: Number(number) };
}

function partOf({ key, version, id, number }: RecordKey, record: LogRecord): HeldPart {
  return { key, version, id: id ?? textOf(record, 'id'), number, offset: record.offset };
}

function textOf({ headers }: LogRecord, header: string): string {
  const value = headers[header] ?? '';
  return typeof value === 'string' ? value : Buffer.from(value).toString();
}

function noteHead(heads: Map<number, Held>, version: number, record: LogRecord): void {
  const head = record.value && headOf(record, version);
  if (head) heads.set(version, head);
  else heads.delete(version);
}

function headOf(record: LogRecord, version: number): Held | null {
  try {
    const parsed = v.safeParse(headSchema, JSON.parse(Buffer.from(record.value!).toString()));
    return parsed.success ? { ...parsed.output, version, savedAtMs: record.timestampMs } : null;
  } catch {
    return null;
  }
}
