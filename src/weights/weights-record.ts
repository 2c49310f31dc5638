import type { LogRecord, TopicRecord } from '../sources/transport.ts';
import { type WeightsFacts, writeWeightsHeader } from './weights-header.ts';

/** The CloudEvents types of a weights topic, and of requests for a snapshot. */
export const weightsType = 'rxgrad.weights.v1';
export const requestType = 'rxgrad.weights-request.v1';

const MOST_HEADER_BYTES = 1024;

/**
 * The key that compaction keeps a part by. Snapshots take the places of older ones; deltas are numbered from the snapshot
 * that they follow, and so take those of the deltas before it.
 */
export function keyOf(model: string, shard: number, delta: number | null, part: number): string {
  return delta === null ? `${model}/${shard}/snapshot/${part}` : `${model}/${shard}/delta/${delta}/${part}`;
}

/** The keys of a model's shard begin with it. */
export function keyPrefix(model: string, shard: number): string {
  return `${model}/${shard}/`;
}

/** Writes a part as a record. */
export function weightsRecord(
  place: { readonly topic: string; readonly partition: number; readonly key: string },
  model: string,
  facts: WeightsFacts,
  value: Uint8Array,
): TopicRecord {
  const headers = {
    ce_specversion: '1.0',
    ce_type: weightsType,
    ce_source: `${model}/${facts.shard}`,
    ce_id: `${facts.sequence}.${facts.part}`,
    ce_subject: model,
    ce_weights: writeWeightsHeader(facts),
  };
  return { ...place, headers, value };
}

/** Asks whoever publishes a model's weights for a snapshot. */
export function requestRecord(model: string, replica: string, count: number): Omit<TopicRecord, 'topic'> {
  const headers = {
    ce_specversion: '1.0',
    ce_type: requestType,
    ce_source: replica,
    ce_id: String(count),
    ce_subject: model,
  };
  return { key: `${model}/request`, value: Buffer.from('{}'), headers };
}

/** A header as text; none where no honest one is so long. */
export function headerOf({ headers }: LogRecord, name: string): string | undefined {
  const value = headers[name];
  if (value === undefined || value.length > MOST_HEADER_BYTES) return undefined;
  return typeof value === 'string' ? value : Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('utf8');
}
