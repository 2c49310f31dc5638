import { GradientBatch, type Place, type Position, type Rejection } from '../events.ts';
import type { HeaderValue, LogRecord } from '../record.ts';
import { encodeEvent } from '../sources/codec.ts';
import { headerReader, headerText } from '../sources/header-text.ts';
import type { NewRecord } from '../sources/transport.ts';

/** All names of rxgrad's own headers on dead letters and retried records begin like this. */
const OWN = 'rxgrad_';
/** Stands before the names of an original's headers that begin so, too: those of a record that was retried. */
const ESCAPE = 'rxgrad_original_';
const MOST_MESSAGE_CHARACTERS = 1024;
/** Of a record: one with more is read without any. */
const MOST_HEADERS = 100;
/** What holds the original's headers that are beyond it. */
const MORE = 'rxgrad_more_headers';

/** What a dead letter says beside the record that it holds. */
export interface DeadLetter {
  /** Its own offset, in the partition of the dead-letter topic. */
  readonly offset: number;
  readonly partition: number;
  /** Where the record stood; null where the event was made in the process that rejected it. */
  readonly position: Position | null;
  /** The id of the topic that it stood in, where its transport knows one: a topic of the same name may have been made since. */
  readonly topicId: string | null;
  readonly reason: string;
  readonly code: string;
  readonly message: string;
  /** What rejected it: `source`, a stage, or the rule of a scan. */
  readonly at: string;
  /** How often it was rejected: more than once where it was retried. */
  readonly attempt: number;
  /** When the record was appended, and when it was rejected. */
  readonly timestampMs: number | null;
  readonly rejectedMs: number;
  readonly worker: string | null;
  readonly sequence: string | null;
  readonly type: string | null;
}

/** The letters of a rejection: of a merged batch, one for each of its parts. */
export function deadLettersOf(rejected: Rejection): NewRecord[] {
  const { delivery } = rejected;
  if (!delivery) return [deadLetter(rejected, null)];
  return (delivery.parts ?? [delivery]).map((place) => deadLetter(rejected, place));
}

/** About how many bytes a record has on the wire, and how many of those a dead letter adds to the original's. */
export function sizeOf({ key, value, headers = {} }: NewRecord): { readonly bytes: number; readonly added: number } {
  let bytes = (key?.length ?? 0) + (value?.length ?? 0);
  let added = 0;
  for (const name in headers) {
    const size = name.length + headers[name]!.length;
    bytes += size;
    if (name.startsWith(ESCAPE)) added += ESCAPE.length;
    else if (name.startsWith(OWN)) added += size;
  }
  return { bytes, added };
}

/** Reads a letter; null where a record is none. */
export function readDeadLetter({ offset, headers, timestampMs }: LogRecord, partition: number): DeadLetter | null {
  const text = (name: string): string | null => textOf(headers[name]);
  const reason = text('rxgrad_reason');
  if (reason === null) return null;
  const topic = text('rxgrad_topic');
  const position = { topic: topic ?? '', partition: numberOf(text('rxgrad_partition')), offset: numberOf(text('rxgrad_offset')) };
  const timestamp = text('rxgrad_timestamp');
  return {
    offset,
    partition,
    position: topic === null ? null : position,
    topicId: text('rxgrad_topic_id'),
    reason,
    code: text('rxgrad_code') ?? '',
    message: text('rxgrad_message') ?? '',
    at: text('rxgrad_at') ?? '',
    attempt: numberOf(text('rxgrad_attempt')),
    timestampMs: timestamp === null ? null : numberOf(timestamp),
    rejectedMs: timestampMs,
    worker: text('ce_source'),
    sequence: text('ce_id'),
    type: text('ce_type'),
  };
}

/** The headers that the record in a letter came with. */
export function originalHeaders(headers: LogRecord['headers']): Record<string, HeaderValue> {
  const kept = Object.entries({ ...headers, ...moreHeaders(headers) }).flatMap(([name, value]): [string, HeaderValue][] => {
    if (name.startsWith(ESCAPE)) return [[name.slice(ESCAPE.length), value]];
    return name.startsWith(OWN) ? [] : [[name, value]];
  });
  return Object.fromEntries(kept);
}

/** A header as text, or null. */
export function textOf(value: HeaderValue | undefined): string | null {
  if (value === undefined) return null;
  return typeof value === 'string' ? value : Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('utf8');
}

function deadLetter(rejected: Rejection, place: Place | null): NewRecord {
  const { key, value, headers } = place?.record ?? encoded(rejected);
  const { position } = place ?? { position: null };
  const { reason, error, at } = rejected;
  const kept = Object.entries(headers ?? {}).map(([name, value]) => [
    name.startsWith(OWN) ? ESCAPE + name : name,
    typeof value === 'string' ? value : detached(value),
  ]);
  const own: Record<string, string> = {
    rxgrad_reason: reason,
    rxgrad_code: error.code,
    rxgrad_message: error.message.slice(0, MOST_MESSAGE_CHARACTERS),
    rxgrad_at: at,
    rxgrad_attempt: String(numberOf(textOf(headers?.rxgrad_attempt)) + 1),
  };
  if (position) {
    own.rxgrad_topic = position.topic;
    own.rxgrad_partition = String(position.partition);
    own.rxgrad_offset = String(position.offset);
  }
  if (place?.topicId !== undefined) own.rxgrad_topic_id = place.topicId;
  if (place?.record) own.rxgrad_timestamp = String(place.record.timestampMs);
  return {
    key: key instanceof Uint8Array ? detached(key) : (key ?? null),
    value: value && detached(value),
    headers: withinLimit(kept as [string, HeaderValue][], own),
  };
}

function moreHeaders(headers: LogRecord['headers']): LogRecord['headers'] {
  const text = textOf(headers[MORE]);
  try {
    return headerReader()(text);
  } catch {
    // Somebody else's: it is as any header of ours on a letter, nothing of the original.
    return {};
  }
}

/** Headers of a record, no more of them than are read: those of the original that are too many go into one. */
function withinLimit(
  kept: readonly (readonly [string, HeaderValue])[],
  own: Readonly<Record<string, HeaderValue>>,
): Record<string, HeaderValue> {
  const room = MOST_HEADERS - Object.keys(own).length;
  if (kept.length <= room) return { ...Object.fromEntries(kept), ...own };
  // Those that rxgrad reads stay to be read.
  const known = kept.filter(([name]) => /^(ce_|rxgrad_)/.test(name)).slice(0, room - 1);
  const others = kept.filter((header) => !known.includes(header));
  return { ...Object.fromEntries(known), ...own, [MORE]: headerText(Object.fromEntries(others))! };
}

/** What there is of an event that was read from no record: the tensors as they were, before any stage. */
function encoded({ event }: Rejection): NewRecord {
  if (!event) return { value: null };
  try {
    return encodeEvent(event instanceof GradientBatch ? new GradientBatch(event.message, null) : event);
  } catch {
    // Tensors that no file can hold under their names.
    return { value: null };
  }
}

/** The bytes, copied where they are a small part of what was fetched with them, which they would keep alive. */
function detached(bytes: Uint8Array): Uint8Array {
  return 2 * bytes.byteLength >= bytes.buffer.byteLength ? bytes : Uint8Array.from(bytes);
}

function numberOf(text: string | null): number {
  return text !== null && /^\d{1,16}$/.test(text) ? Number(text) : 0;
}
