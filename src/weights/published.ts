import { readAll } from '../sources/read-all.ts';
import type { Transport } from '../sources/transport.ts';
import { parseWeightsHeader } from './weights-header.ts';
import { headerOf, keyPrefix, weightsType } from './weights-record.ts';

/** What a topic holds of a shard already. */
export interface Published {
  /** Of the last publication; 0 before the first. */
  readonly sequence: number;
  readonly version: number;
  /** The course of the last publication; undefined where it tells none. */
  readonly course: string | undefined;
  /** The first offset that was not read. */
  readonly next: number;
  /** Keys that compaction keeps. */
  readonly keys: ReadonlySet<string>;
}

export const nothingPublished: Published = { sequence: 0, version: -1, course: undefined, next: 0, keys: new Set() };

/** Reads back what a shard has published, or what came since it was read before. */
export async function readPublished(
  transport: Transport,
  topic: string,
  model: string,
  shard: number,
  partition: number,
  before: Published = nothingPublished,
): Promise<Published> {
  const keys = new Set(before.keys);
  let { sequence, version, course, next } = before;
  const from = next > 0 ? { from: new Map([[partition, next]]) } : {};
  await readAll(transport, topic, { ...from, partitions: [partition] }, (record) => {
    next = record.offset + 1;
    const key = Buffer.from(record.key ?? []).toString();
    if (!key.startsWith(keyPrefix(model, shard))) return;
    if (record.value === null) {
      keys.delete(key);
      return;
    }
    if (headerOf(record, 'ce_type') !== weightsType || headerOf(record, 'ce_subject') !== model) return;
    keys.add(key);
    const parsed = parseWeightsHeader(headerOf(record, 'ce_weights') ?? '');
    if ('problem' in parsed) return;
    course = parsed.facts.course;
    sequence = Math.max(sequence, parsed.facts.sequence);
    version = Math.max(version, parsed.facts.version);
  });
  return { sequence, version, course, next, keys };
}
