import type { WeightsFacts } from '../../src/weights/weights-header.ts';

/** What is said of a snapshot in one part, of a model in one shard, where nothing else is given. */
export function snapshotFacts(own: Partial<WeightsFacts> & Pick<WeightsFacts, 'sequence'>): WeightsFacts {
  return {
    version: own.sequence,
    course: undefined,
    kind: 'snapshot',
    base: undefined,
    shard: 0,
    shards: 1,
    part: 0,
    parts: 1,
    crc32: 0,
    ...own,
  };
}
