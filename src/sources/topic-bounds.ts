import { RxgradError } from '../errors.ts';
import type { ConsumeOptions, NewRecord } from './transport.ts';

/** What a partition holds: `first` is its oldest record, `end` the offset that its next record will get. */
export interface PartitionBounds {
  readonly first: number;
  readonly end: number;
}

/** The next offset by partition that a consumption begins at (see {@link ConsumeOptions.from}). */
export function startingOffsets(
  topic: string,
  bounds: readonly PartitionBounds[],
  from: ConsumeOptions['from'],
  acknowledged: ReadonlyMap<number, number>,
): number[] {
  if (from instanceof Map) {
    for (const partition of from.keys()) requirePartition(topic, bounds.length, partition);
  }
  return bounds.map(({ first, end }, partition) => {
    if (from === 'beginning') return first;
    if (from === 'end') return end;
    if (from === undefined) return Math.max(first, acknowledged.get(partition) ?? first);
    const offset = from.get(partition);
    return offset === undefined ? first : requireOffset(topic, partition, { first, end }, offset);
  });
}

/** Gives back an offset that a consumption can continue at: of a record still held, or the end. */
export function requireOffset(topic: string, partition: number, { first, end }: PartitionBounds, offset: number): number {
  if (Number.isInteger(offset) && offset >= first && offset <= end) return offset;
  throw new RxgradError('offsetOutOfRange', { where: `${topic}/${partition}`, first, last: end, got: offset });
}

export function requirePartition(topic: string, partitions: number, partition: number): void {
  if (Number.isInteger(partition) && partition >= 0 && partition < partitions) return;
  const expected =
    partitions === 1 ? `0, the only partition of "${topic}"` : `0 to ${partitions - 1}, the partitions of "${topic}"`;
  throw new RxgradError('invalidOption', { option: 'partition', expected, got: partition });
}

export function requirePartitions(topic: string, partitions: number, records: readonly NewRecord[]): void {
  for (const { partition } of records) if (partition !== undefined) requirePartition(topic, partitions, partition);
}

/** Checks that every record of a compacted topic has the key that it is kept by. */
export function requireKeys(topic: string, records: readonly NewRecord[]): void {
  for (const { key } of records) {
    if (key !== undefined && key !== null) continue;
    throw new RxgradError('invalidOption', { option: 'key', expected: `one, since "${topic}" is compacted`, got: 'none' });
  }
}

/** Gives back a number of partitions that a topic can have. */
export function requirePartitionCount(partitions: number, most: number): number {
  if (Number.isInteger(partitions) && partitions >= 1 && partitions <= most) return partitions;
  throw new RxgradError('invalidOption', { option: 'partitions', expected: `an integer from 1 to ${most}`, got: partitions });
}

/** The error of every call to a transport that was closed. */
export function closedTransport(transport: string): RxgradError {
  return new RxgradError('transportFailed', { transport, problem: 'it was closed', advice: 'Create a new transport' });
}

/** The error of a writer whose id was opened again. */
export function fencedWriter(transport: string, id: string, cause?: unknown): RxgradError {
  const problem = `another writer "${id}" has taken over, or a transaction of this one ran out of time`;
  return new RxgradError('fenced', { where: transport, problem }, { cause });
}
