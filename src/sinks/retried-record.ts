import type { HeaderValue, LogRecord } from '../record.ts';
import { eventTypes } from '../sources/codec.ts';
import type { NewRecord } from '../sources/transport.ts';
import { RETRY } from '../worker-id.ts';
import { type DeadLetter, originalHeaders, readDeadLetter, textOf } from './dead-letter.ts';

/** What a letter is known by: where its record stood, or its own place where that stood nowhere. */
export function idOf({ position, partition, offset }: Place): string {
  return position ? `${position.topic}/${position.partition}@${position.offset}` : `#${partition}@${offset}`;
}

type Place = Pick<DeadLetter, 'position' | 'partition' | 'offset'>;

/**
 * The record of a letter as it is sent again: its bytes, and its headers with where it first stood (`rxgrad_retry_of`) and how
 * often it was rejected (`rxgrad_attempt`).
 *
 * Gradients come from a worker of their own, `retry:` and where the record first stood, with the id of that topic, and one
 * sequence. The first worker may have sent higher ones since, so that this one would count as seen; of its own worker it is applied
 * once, and only once, in whatever order, and however often it is sent.
 */
export function retriedRecord(
  letter: LogRecord,
  { topic, topicId: ownId }: { readonly topic: string; readonly topicId: string | null },
  place: Place & Pick<DeadLetter, 'topicId'>,
): NewRecord {
  const original = originalHeaders(letter.headers);
  const first = textOf(original.rxgrad_retry_of) ?? (place.position ? idOf(place) : `${topic}${idOf(place)}`);
  const attempt = readDeadLetter(letter, place.partition)?.attempt ?? 1;
  const worker = textOf(original.ce_source) ?? '';
  const own: Record<string, HeaderValue> = { rxgrad_retry_of: first, rxgrad_attempt: String(attempt) };
  if (textOf(original.ce_type) === eventTypes.gradients) {
    // What stood nowhere is known by its letter's place.
    const topicId = place.position ? place.topicId : ownId;
    const from = topicId === null ? first : `${first}#${topicId}`;
    own.ce_source = original.rxgrad_retry_of !== undefined && worker.startsWith(RETRY) ? worker : `${RETRY}${from}:${worker}`;
    own.ce_id = '0';
  }
  return { key: letter.key, value: letter.value, headers: { ...original, ...own } };
}

/** Which letter was sent again, and where it stands now. */
interface RetryMark extends Pick<DeadLetter, 'topicId'> {
  readonly id: string;
  readonly as: string;
}

/** What is written behind the letters to mark one that was sent again. */
export function retryMark({ id, topicId, as }: RetryMark): NewRecord {
  const of: Record<string, HeaderValue> = topicId === null ? {} : { rxgrad_retried_topic_id: topicId };
  return { key: id, value: null, headers: { rxgrad_retried: id, rxgrad_retried_as: as, ...of } };
}

/** Reads a mark; null where a record is none. */
export function readRetryMark({ headers }: LogRecord): RetryMark | null {
  const id = textOf(headers.rxgrad_retried);
  // A letter whose record had such a header has it under another name.
  return id === null || headers.rxgrad_reason !== undefined
    ? null
    : { id, topicId: textOf(headers.rxgrad_retried_topic_id), as: textOf(headers.rxgrad_retried_as) ?? '' };
}
