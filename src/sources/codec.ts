import * as v from 'valibot';
import { type RejectionReason, RxgradError } from '../errors.ts';
import {
  type Delivery,
  type EpochBoundary,
  GradientBatch,
  type GradientFacts,
  type MetricReport,
  placeOf,
  rejection,
  type TrainingEvent,
} from '../events.ts';
import { parseOptions } from '../options.ts';
import { type ElementType, elementBytes } from '../payload.ts';
import { changesGradients, materialise } from '../pending.ts';
import { NO_WORKER, workerBytes, workerOf } from '../worker-id.ts';
import { encodeTensors } from './encode-tensors.ts';
import { excerpt } from './excerpt.ts';
import { parseGradientHeader, writeGradientHeader } from './gradient-header.ts';
import { SafetensorsReader, writeSafetensors } from './safetensors.ts';
import type { HeaderValue, LogRecord, NewRecord } from './transport.ts';

/** The CloudEvents types of events on the wire. */
export const eventTypes = {
  gradients: 'rxgrad.gradients.v1',
  epoch: 'rxgrad.epoch.v1',
  metric: 'rxgrad.metric.v1',
} as const;

const dtypeSchema = v.optional(v.picklist(Object.keys(elementBytes) as ElementType[]));
const MAX_HEADER_CHARACTERS = 1024;
const MAX_JSON_BYTES = 64 << 10;
const MAX_METRIC_NAME = 256;
const zero = '0'.charCodeAt(0);

/** What the records of one producer share. */
export interface Envelope {
  /** The record's key: the model, and the shard where there are several. */
  readonly key?: string;
  /** Who sends: becomes `ce_source`. Default: the batch's own worker. */
  readonly source?: string;
  /**
   * How gradients are written: rounded to the nearest; I8 with one factor max|g| / 127 for each tensor. Default: as they came,
   * and F32 behind pending operations.
   */
  readonly dtype?: ElementType;
  /** The producer's count, where the event has none of its own: becomes `ce_id`. */
  readonly sequence?: number;
}

/**
 * Writes an event as a record: CloudEvents 1.0 in Kafka's binary mode, tensors as safetensors, small events as JSON. Pending
 * operations of a batch are done first; where they change the gradients, what the producer said of their norm is left out.
 */
export function encodeEvent(event: GradientBatch | EpochBoundary | MetricReport, envelope: Envelope = {}): NewRecord {
  const facts: GradientFacts = event instanceof GradientBatch ? event.facts : {};
  const source = envelope.source ?? facts.worker ?? NO_WORKER;
  const sequence = facts.sequence ?? envelope.sequence;
  const headers: Record<string, HeaderValue> = {
    ce_specversion: '1.0',
    ce_type: eventTypes[event.kind],
    // As it came, where it is of bytes that are not UTF-8.
    ce_source: source.isWellFormed() ? source : workerBytes(source),
  };
  if (sequence !== undefined) headers.ce_id = String(sequence);
  const key = envelope.key ?? null;
  if (!(event instanceof GradientBatch)) {
    const { kind: _, delivery: __, ...body } = event;
    if ('name' in body && !isMetricName(body.name)) {
      const expected = `a metric's name of at most ${MAX_METRIC_NAME} characters`;
      throw new RxgradError('invalidOption', { option: 'encodeEvent', expected, got: excerpt(body.name) });
    }
    return { key, value: Buffer.from(JSON.stringify(body)), headers };
  }
  const gradient = writeGradientHeader(changesGradients(event.pending) ? { ...facts, norm: undefined } : facts);
  if (gradient) headers.ce_gradient = gradient;
  if (facts.traceparent) headers.traceparent = facts.traceparent;
  const { layout } = event.message;
  const dtype = parseOptions(dtypeSchema, envelope.dtype, 'encodeEvent: dtype') ?? (event.pending ? 'F32' : null);
  const encoded = dtype ? encodeTensors(layout, materialise(event.message, event.pending), dtype) : event.message;
  return { key, value: writeSafetensors(encoded.layout, encoded.payload), headers };
}

/** Reads records as events. What cannot be read becomes a {@link Rejection}: nothing is thrown. Keep one for each stream. */
export class EventDecoder {
  readonly #safetensors = new SafetensorsReader();
  readonly #type = repeated(text);
  readonly #source = repeated(workerOf);

  decode(record: LogRecord, delivery: Delivery): TrainingEvent {
    const type = this.#type(record.headers.ce_type);
    switch (type) {
      case eventTypes.gradients:
        return this.#gradients(record, delivery);
      case eventTypes.epoch:
        return decodeJson(record, delivery, (body) =>
          isEpoch(body.epoch) ? { kind: 'epoch', epoch: body.epoch, delivery } : 'an epoch as a whole number of at least 0',
        );
      case eventTypes.metric:
        return decodeJson(record, delivery, (body) =>
          isMetricName(body.name) && Number.isFinite(body.value)
            ? { kind: 'metric', name: body.name, value: body.value as number, delivery }
            : `a metric with a name of at most ${MAX_METRIC_NAME} characters and a finite value`,
        );
      default:
        return refuse(
          delivery,
          `a ce_type header of ${Object.values(eventTypes).join(', ')}`,
          type === undefined ? 'none' : excerpt(type),
        );
    }
  }

  #gradients(record: LogRecord, delivery: Delivery): TrainingEvent {
    const { headers, value } = record;
    const described = text(headers.ce_gradient);
    if ((headers.ce_gradient?.length ?? 0) > MAX_HEADER_CHARACTERS) {
      return refuse(delivery, `a ce_gradient header of at most ${MAX_HEADER_CHARACTERS} bytes`, excerpt(described!));
    }
    const parsed = described === undefined ? { facts: {} } : parseGradientHeader(described);
    if ('problem' in parsed)
      return refuse(delivery, 'a ce_gradient header as in RFC 9651', `${parsed.problem} in ${excerpt(described!)}`);
    const { ce_id: id } = headers;
    const sequence = id === undefined ? undefined : sequenceOf(id);
    if (sequence === null) return refuse(delivery, 'a sequence number as ce_id', excerpt(text(id)!));
    const facts: GradientFacts = {
      ...parsed.facts,
      worker: this.#source(headers.ce_source),
      sequence,
      traceparent: headers.traceparent === undefined ? undefined : text(headers.traceparent),
    };
    if (value === null) return refuse(delivery, 'a safetensors file', 'a record without a value', facts);
    const read = this.#safetensors.read(value);
    if (typeof read === 'function') return rejection(read(placeOf(delivery)), delivery, facts);
    return new GradientBatch({ layout: read.layout, payload: read.payload, facts, delivery }, null);
  }
}

function decodeJson(
  { value }: LogRecord,
  delivery: Delivery,
  read: (body: Record<string, unknown>) => TrainingEvent | string,
): TrainingEvent {
  if (value === null || value.byteLength > MAX_JSON_BYTES) {
    return refuse(delivery, `JSON of at most ${MAX_JSON_BYTES} bytes`, value === null ? 'no value' : `${value.byteLength} bytes`);
  }
  const json = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('utf8');
  let body: unknown;
  try {
    body = JSON.parse(json);
  } catch {
    return refuse(delivery, 'JSON', excerpt(json));
  }
  if (typeof body !== 'object' || body === null) return refuse(delivery, 'a JSON object', excerpt(json));
  const event = read(body as Record<string, unknown>);
  return typeof event === 'string' ? refuse(delivery, event, excerpt(json)) : event;
}

function refuse(delivery: Delivery, expected: string, got: string, facts?: GradientFacts): TrainingEvent {
  const error: RxgradError<RejectionReason> = new RxgradError('undecodable', { where: placeOf(delivery), expected, got });
  return rejection(error, delivery, facts);
}

function isMetricName(value: unknown): value is string {
  return typeof value === 'string' && value.length <= MAX_METRIC_NAME;
}

function isEpoch(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** A whole number in decimal digits, or null. */
function sequenceOf(id: HeaderValue): number | null {
  if (id.length === 0) return null;
  let sequence = 0;
  for (let i = 0; i < id.length; i++) {
    const digit = (typeof id === 'string' ? id.charCodeAt(i) : id[i]!) - zero;
    if (!(digit >= 0 && digit <= 9)) return null;
    sequence = 10 * sequence + digit;
  }
  return Number.isSafeInteger(sequence) ? sequence : null;
}

/** Makes a function that reads a header in some way, and knows the last one again: most records repeat it. */
function repeated(
  read: (value: HeaderValue | undefined) => string | undefined,
): (value: HeaderValue | undefined) => string | undefined {
  let last: Uint8Array = new Uint8Array(0);
  let lastText = read(last);
  return (value) => {
    if (value === undefined || typeof value === 'string') return read(value);
    if (sameBytes(value, last)) return lastText;
    if (value.byteLength > MAX_HEADER_CHARACTERS) return read(value);
    last = Uint8Array.from(value);
    lastText = read(value);
    return lastText;
  };
}

/** For a few bytes a loop is faster than the call of `Buffer.equals`. */
function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** A header as text, cut where no honest one is so long. */
function text(value: HeaderValue | undefined): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value === 'string') return value.slice(0, MAX_HEADER_CHARACTERS);
  const bytes = Buffer.isBuffer(value) ? value : Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  return bytes.toString('utf8', 0, Math.min(bytes.byteLength, MAX_HEADER_CHARACTERS));
}
