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

const headSchema = v.object({ id: v.string(), bytes: count, chunks: count });
const keyForm = /^([^/]+)\/(\d+)\/(head|pin|\d+)$/;

/** What was read of a topic of checkpoints. */
export class CheckpointIndex {
  readonly heads = new Map<number, Held>();
  readonly pins = new Set<number>();
  /** Where the first record of a file lies, by its id. */
  readonly firsts = new Map<string, number>();
  /** Versions of the courses that were set aside, by their number. */
  readonly abandoned = new Map<number, Map<number, Held>>();
  next = 0;
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
    const key = keyOf(record);
    if (!key) return;
    const { model, version, name } = key;
    if (model !== this.#model) {
      this.#noteAbandoned(model, version, name, record);
    } else if (name === 'head') {
      noteHead(this.heads, version, record);
    } else if (name === 'pin') {
      if (record.value) this.pins.add(version);
      else this.pins.delete(version);
    } else if (name === '0' && record.value) this.firsts.set(textOf(record, 'id'), record.offset);
  }

  /** What a record is of a checkpoint of this model; null where it is none. */
  partOf(record: LogRecord): { readonly version: number; readonly name: string } | null {
    const key = keyOf(record);
    return key?.model === this.#model ? key : null;
  }

  #noteAbandoned(model: string, version: number, name: string, record: LogRecord): void {
    const number = Number(model.slice(this.#prefix.length));
    if (name !== 'head' || model !== this.courseName(number) || !Number.isSafeInteger(number)) return;
    const course = this.abandoned.get(number) ?? new Map<number, Held>();
    this.abandoned.set(number, course);
    noteHead(course, version, record);
  }
}

/** The value of a head, as it is read again. */
export function encodedHead({ id, bytes, chunks }: Pick<Held, 'id' | 'bytes' | 'chunks'>): Uint8Array {
  return Buffer.from(JSON.stringify({ id, bytes, chunks }));
}

/** A header as text; empty where there is none. */
export function textOf({ headers }: LogRecord, header: string): string {
  const value = headers[header] ?? '';
  return typeof value === 'string' ? value : Buffer.from(value).toString();
}

function keyOf({ key }: LogRecord): { model: string; version: number; name: string } | null {
  const [, model, version, name] = keyForm.exec(Buffer.from(key ?? []).toString()) ?? [];
  return model === undefined ? null : { model, version: Number(version), name: name! };
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
