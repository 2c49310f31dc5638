import { Ending } from './ending.ts';
import { closedTransport, requirePartition } from './topic-bounds.ts';
import type { Consumption, LogRecord, Transport } from './transport.ts';

export interface ReadAllOptions {
  /** Default `'beginning'`. */
  readonly from?: 'beginning' | ReadonlyMap<number, number>;
  /** Default: all. */
  readonly partitions?: readonly number[];
}

/**
 * Reads a topic up to its present end, each partition in order, and resolves to the end of every partition. One call of
 * `onRecord` at a time; while it is pending, no more is held of a partition than the transport delivers and fetches ahead.
 */
export async function readAll(
  transport: Transport,
  topic: string,
  { from = 'beginning', partitions }: ReadAllOptions,
  onRecord: (record: LogRecord, partition: number) => void | Promise<void>,
): Promise<number[]> {
  const present = partitions && (await transport.endOffsets(topic));
  for (const partition of partitions ?? []) requirePartition(topic, present!.length, partition);
  const until = present ? { offsets: new Map(partitions!.map((partition) => [partition, present[partition]!])) } : 'end';
  const ending = await Ending.of(transport, topic, from, until);
  const ends = present ?? [...ending.ends];
  if (ending.isReached) return ends;
  const finished = Promise.withResolvers<void>();
  let turn: Promise<void> = Promise.resolve();
  let over = false;

  function finish(): void {
    if (ending.isReached) finished.resolve();
  }

  async function handle(partition: number, records: readonly LogRecord[]): Promise<void> {
    for (const record of records) {
      if (over || ending.isBehind(partition, record)) break;
      const handling = onRecord(record, partition);
      if (handling) await handling;
      ending.reach(partition, record.offset + 1);
    }
    finish();
  }

  const consumption: Consumption = await transport.consume({
    topic,
    ...(ending.from === undefined ? {} : { from: ending.from }),
    deliver(_, partition, records) {
      turn = turn.then(() => handle(partition, records));
      return turn;
    },
    onReached(partition, nextOffset) {
      ending.reach(partition, nextOffset);
      finish();
    },
    onStop: () => finished.reject(closedTransport(transport.name)),
    onError: finished.reject,
  });
  try {
    await finished.promise;
  } finally {
    over = true;
    await consumption.stop();
  }
  return ends;
}
