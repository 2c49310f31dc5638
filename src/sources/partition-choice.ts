import { RxgradError } from '../errors.ts';
import { requirePartition } from './topic-bounds.ts';
import type { ConsumeOptions, Transport } from './transport.ts';

/**
 * Which partitions of a topic make the weights of one model: a list of one, or all of them in the order in which they arrive. Only a
 * partition has an order of its own; weights that come of several are other bits each time.
 */
export type PartitionChoice = readonly number[] | 'any-order';

/** The partition that is read, or null for all. Fails where there are several, and nobody has said that their order does not matter. */
export function chosenPartition(topic: string, choice: PartitionChoice | undefined, count: number): number | null {
  if (choice === 'any-order') return null;
  const [first = 0] = choice ?? [];
  const chosen = choice?.length ?? count;
  if (chosen !== 1) throw new RxgradError('severalPartitions', { where: `Topic "${topic}"`, count: chosen });
  requirePartition(topic, count, first);
  return first;
}

/** Says that weights will depend on the order of arrival. */
export function warnOfAnyOrder(topic: string, count: number): void {
  if (count < 2) return;
  process.emitWarning(
    `Topic "${topic}": its ${count} partitions are taken in the order in which they arrive. ` +
      'The weights come to other bits each time, and a batch that was sent to two partitions is applied twice: ' +
      'sequences of workers are compared within a partition',
    { code: 'RXGRAD_ANY_ORDER' },
  );
}

/** Where to begin so that as little as can be is fetched of the other partitions. */
export async function onlyFrom(
  transport: Transport,
  topic: string,
  from: ConsumeOptions['from'],
  only: number,
): Promise<ConsumeOptions['from']> {
  const [starts, ends] = await Promise.all([transport.startOffsets(topic), transport.endOffsets(topic)]);
  const asked = from === 'end' ? ends[only] : from instanceof Map ? from.get(only) : undefined;
  return new Map([...ends.entries()].map(([partition, end]) => [partition, partition === only ? (asked ?? starts[only]!) : end]));
}
