import { RxgradError } from '../errors.ts';
import { markOf, sameMark } from '../record-mark.ts';
import { describeTopic, recordAt } from '../sources/describe-topic.ts';
import { chosenPartition, type PartitionChoice } from '../sources/partition-choice.ts';
import type { Transport } from '../sources/transport.ts';
import type { CheckpointFacts, PlaceInTopic } from './checkpoint-file.ts';

/** A log that a checkpoint goes on in. */
export interface LogToGoOnIn {
  readonly transport: Transport;
  readonly topic: string;
  readonly partitions?: PartitionChoice | undefined;
}

/** Where a stream goes on, as `fromTransport` takes it. */
export interface SourcePlace {
  readonly from: ReadonlyMap<number, number>;
  readonly partitions?: PartitionChoice | undefined;
  readonly topicId?: string | undefined;
}

/**
 * The offsets at which a log goes on after a checkpoint. Fails where it is another log of the same name, where it does not hold these offsets
 * any more, and where it has partitions that the checkpoint does not know.
 */
export async function placeInLog(facts: CheckpointFacts, log: LogToGoOnIn, where: string): Promise<SourcePlace> {
  const { transport, topic, partitions } = log;
  requireSameTopic(facts, topic, where);
  const described = await describeTopic(transport, topic);
  requireSameId(facts, topic, described.id);
  const known = new Map(facts.positions.flatMap(([of, partition, next]) => (of === topic ? [[partition, next] as const] : [])));
  const only = chosenPartition(topic, partitions, described.partitions);
  if (partitions !== undefined && only !== null && known.size > 0 && !known.has(only)) {
    const expected = `${[...known.keys()].join(', ')}, as in ${where}: each partition has its own store`;
    throw new RxgradError('invalidOption', { option: 'partitions', expected, got: String(only) });
  }
  const chosen = only === null ? [...Array(described.partitions).keys()] : [only];
  const [starts, ends] = await Promise.all([transport.startOffsets(topic), transport.endOffsets(topic)]);
  const from = new Map<number, number>();
  for (const partition of new Set([...chosen, ...(partitions === undefined || only === null ? known.keys() : [])])) {
    const next = known.get(partition) ?? 0;
    const [first = 0, last = 0] = [starts[partition], ends[partition]];
    if (next < first || next > last) {
      const place = `${topic}/${partition}`;
      throw new RxgradError('logTooShort', { where: place, expected: next, version: facts.version, first, last });
    }
    await requireLastRecord(facts, log, partition, { first, topicId: described.id });
    from.set(partition, next);
  }
  warnOfNew(
    facts,
    topic,
    [...from.keys()].filter((partition) => !known.has(partition)),
  );
  return {
    from,
    ...(partitions === undefined ? {} : { partitions }),
    ...(described.id === null ? {} : { topicId: described.id }),
  };
}

/** What a state says of its place in a topic, to go on at these offsets. */
export async function placeOfOffsets(
  transport: Transport,
  topic: string,
  next: ReadonlyMap<number, number>,
): Promise<PlaceInTopic> {
  const [{ id }, starts] = await Promise.all([describeTopic(transport, topic), transport.startOffsets(topic)]);
  const marks = [...next].map(async ([partition, offset]) => {
    const record = offset > starts[partition]! ? await recordAt(transport, topic, partition, offset - 1) : null;
    return record?.offset === offset - 1 ? [[partition, markOf(record)] as const] : [];
  });
  return { topic, topicId: id, next, last: new Map((await Promise.all(marks)).flat()) };
}

function requireSameTopic({ positions }: CheckpointFacts, topic: string, where: string): void {
  const others = positions.filter(([of]) => of !== topic).map(([of]) => of);
  if (others.length === 0 || others.length < positions.length) return;
  throw new RxgradError('invalidOption', { option: 'topic', expected: `that of ${where} ("${others[0]}")`, got: topic });
}

function requireSameId({ log, version }: CheckpointFacts, topic: string, id: string | null): void {
  const known = log?.topics.find(([of]) => of === topic)?.[1];
  if (known === undefined || id === null || known === id) return;
  throw new RxgradError('otherLog', { where: topic, topic, version, expected: `id ${known}`, got: `id ${id}` });
}

/** Compares the record before a position with the one that the checkpoint contains, where the log still holds it. */
async function requireLastRecord(
  { log, version }: CheckpointFacts,
  { transport, topic }: LogToGoOnIn,
  partition: number,
  { first, topicId }: { readonly first: number; readonly topicId: string | null },
): Promise<void> {
  const [, , offset = -1, timestampMs = 0, crc = 0] = log?.last.find(([of, at]) => of === topic && at === partition) ?? [];
  if (offset < first) return;
  const place = `${topic}/${partition}@${offset}`;
  const record = await recordAt(transport, topic, partition, offset);
  const found = record?.offset === offset ? markOf(record) : null;
  if (found) {
    const contained = { offset, timestampMs, crc };
    if (sameMark(found, contained)) return;
    throw new RxgradError('otherLog', { where: place, topic, version, expected: inWords(contained), got: inWords(found) });
  }
  // It may have been compacted away, or be past its time while the others of its segment are held: that is the same log.
  if (topicId !== null && log?.topics.some(([of]) => of === topic)) return;
  process.emitWarning(
    `${place}: the last record that version ${version} was trained on is not in the log any more, and the log has no id: ` +
      'whether it is still the same one cannot be told',
    { code: 'RXGRAD_LOG_NOT_VERIFIED' },
  );
}

function warnOfNew({ version }: CheckpointFacts, topic: string, partitions: readonly number[]): void {
  if (partitions.length === 0) return;
  process.emitWarning(
    `Topic "${topic}": version ${version} knows nothing of ${partitions.length === 1 ? 'partition' : 'partitions'} ${partitions.join(', ')}: ` +
      'read from offset 0',
    { code: 'RXGRAD_NEW_PARTITIONS' },
  );
}

function inWords({ timestampMs, crc }: { readonly timestampMs: number; readonly crc: number }): string {
  const time =
    Number.isFinite(timestampMs) && Math.abs(timestampMs) <= 8.64e15 ? new Date(timestampMs).toISOString() : timestampMs;
  return `a record of ${time} with crc32 ${crc.toString(16).padStart(8, '0')}`;
}
