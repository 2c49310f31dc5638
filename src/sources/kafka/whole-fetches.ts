import type { RxgradError } from '../../errors.ts';
import { offsetGap } from '../offset-gap.ts';
import type { FetchAnswer, FetchRequest } from './kafka-cluster.ts';

type PartitionAnswer = FetchAnswer['responses'][number]['partitions'][number];

/**
 * Cuts what was fetched of each partition before the first offset that is missing, so that the next fetch begins there; and reports a
 * partition that lacks the very offset that was asked for. A fetch brings control records and those of aborted transactions, too: without
 * compaction, every offset is there from the first one on.
 */
export function withoutGaps(
  request: FetchRequest,
  answer: FetchAnswer,
  onGap: (partition: number, error: RxgradError) => void,
): FetchAnswer {
  const asked = new Map(
    request.topics.flatMap(({ partitions }) => partitions.map((one) => [one.partition, Number(one.fetchOffset)])),
  );
  const responses = answer.responses.map((response) => ({
    ...response,
    partitions: response.partitions.map((found) => {
      const next = asked.get(found.partition)!;
      const { whole, got } = wholeFrom(next, found.messages);
      if (got === null) return found;
      if (whole.length === 0) onGap(found.partition, offsetGap(response.topicName, found.partition, next, got));
      return { ...found, messages: whole };
    }),
  }));
  return { ...answer, responses };
}

/** The messages before the first gap, and the first offset after it; null where there is none. A batch may begin before what was asked for. */
function wholeFrom(
  next: number,
  messages: PartitionAnswer['messages'],
): { whole: PartitionAnswer['messages']; got: number | string | null } {
  const last = messages.at(-1);
  if (!last) return { whole: messages, got: null };
  const first = messages.findIndex(({ offset }) => Number(offset) >= next);
  // A batch that reaches to the offset, and lacks it.
  if (first < 0) return { whole: [], got: 'a later offset' };
  if (Number(last.offset) === next + messages.length - first - 1) return { whole: messages, got: null };
  const whole = messages.slice(first).filter(({ offset }, i) => Number(offset) === next + i);
  return { whole, got: Number(messages[first + whole.length]!.offset) };
}
