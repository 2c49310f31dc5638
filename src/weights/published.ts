import { readAll } from '../sources/read-all.ts';
import type { Transport } from '../sources/transport.ts';
import { parseWeightsHeader } from './weights-header.ts';
import { headerOf, keyPrefix, weightsType } from './weights-record.ts';

/** What a topic holds of a shard already. */
export interface Published {
  /** Of the last publication; 0 before the first. */
  readonly sequence: number;
  readonly version: number;
  /** Keys that compaction keeps. */
  readonly keys: ReadonlySet<string>;
}

/** Reads back what a shard has published. */
export async function readPublished(
  transport: Transport,
  topic: string,
  model: string,
  shard: number,
  partition: number,
): Promise<Published> {
  const keys = new Set<string>();
  let sequence = 0;
  let version = -1;
  await readAll(transport, topic, { partitions: [partition] }, (record) => {
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
    sequence = Math.max(sequence, parsed.facts.sequence);
    version = Math.max(version, parsed.facts.version);
  });
  return { sequence, version, keys };
}
