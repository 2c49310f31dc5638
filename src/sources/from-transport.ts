import { Observable } from 'rxjs';
import * as v from 'valibot';
import type { OnceState, TrainingEvent } from '../events.ts';
import { count, finite, parseOptions } from '../options.ts';
import { requireFit } from './check-topic.ts';
import { describeTopic, requireTopicId } from './describe-topic.ts';
import { Ending, type Until } from './ending.ts';
import { EventFeed, type FeedReader } from './event-feed.ts';
import { InFlight } from './in-flight.ts';
import { chosenPartition, onlyFrom, type PartitionChoice, warnOfAnyOrder } from './partition-choice.ts';
import { progress } from './progress.ts';
import { closedTransport } from './topic-bounds.ts';
import { everyMinute, watchTopic } from './topic-watch.ts';
import type { ConsumeOptions, Consumption, TopicDescription, Transport } from './transport.ts';

export interface FromTransportOptions extends Pick<ConsumeOptions, 'topic' | 'from' | 'group'> {
  /** Events handed out and not acknowledged, at most. Default 1000. */
  readonly maxInFlight?: number;
  /** Bytes of such events, at most; a single larger event still goes through, alone. Default 64 MiB. */
  readonly maxBytes?: number;
  /**
   * Completes there: behind what the topic held when it was subscribed to, once every partition named was read up to
   * (exclusive) its offset, with nothing of the others, or before the first record of each partition that is younger than a
   * time (and at the present end at the latest). Not with `group`. Default: never completes.
   */
  readonly until?: Until;
  /**
   * Of a topic with several partitions: the one that is read, in a list, or `'any-order'` for all of them as their records arrive, with other
   * bits each time. Default: the topic must have one partition, or `until` name the offset of one.
   */
  readonly partitions?: PartitionChoice | undefined;
  /** The id that the topic has to have, where the stream goes on from a checkpoint: see `recover`. */
  readonly topicId?: string | undefined;
  /** Is called once a minute: see `recover`. */
  readonly watch?: (() => Promise<void>) | undefined;
  /** What was counted before, where the stream goes on from a checkpoint: see `recover`. */
  readonly seen?: OnceState | undefined;
  /** Leaves events out before anybody sees them, and acknowledges them. */
  readonly where?: (event: TrainingEvent) => boolean;
}

const name = v.pipe(v.string(), v.nonEmpty('a name'));
const wholeNumber = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const schema = v.pipe(
  v.strictObject({
    topic: name,
    from: v.optional(v.union([v.picklist(['beginning', 'end']), v.map(v.number(), v.number())])),
    group: v.optional(name),
    maxInFlight: v.optional(count, 1000),
    maxBytes: v.optional(count, 64 << 20),
    until: v.optional(
      v.union([
        v.literal('end'),
        v.strictObject({ offsets: v.map(v.number(), wholeNumber) }),
        v.strictObject({ timeMs: finite }),
      ]),
    ),
    partitions: v.optional(v.union([v.literal('any-order'), v.array(wholeNumber)])),
    topicId: v.optional(name),
    watch: v.optional(v.function()),
    seen: v.optional(v.custom<OnceState>((value) => typeof value === 'object' && value !== null, 'what `recover` gave')),
    where: v.optional(v.function()),
  }),
  v.check(({ until, group }) => !until || !group, '`until` without `group` (where a group begins is not known beforehand)'),
  v.check(
    ({ partitions, group }) => !Array.isArray(partitions) || !group,
    '`partitions` without `group`, whose members share them',
  ),
);

/**
 * Turns a topic into events. At most `maxInFlight` events and `maxBytes` are handed out before they are acknowledged (scans
 * do that); meanwhile the log is read no further. What cannot be decoded comes as a rejection, in its place.
 *
 * @example
 * fromTransport(transport, { topic: 'gradients' }).pipe(clipByGlobalNorm(1), momentum(params, { lr: 0.1 })).subscribe()
 */
export function fromTransport(transport: Transport, options: FromTransportOptions): Observable<TrainingEvent> {
  const parsed = parseOptions(schema, options, 'fromTransport');
  const { maxInFlight, maxBytes, seen } = parsed;
  return new Observable((out) => {
    let consumption: Consumption | null = null;
    let ending: Ending | null = null;
    let feed: EventFeed | null = null;
    let unwatch = (): void => {};

    const reader: FeedReader = {
      get closed() {
        return out.closed;
      },
      next: (event) => out.next(event),
      read(partition, nextOffset) {
        reading.at(partition, nextOffset);
        ending?.reach(partition, nextOffset);
        completeAtEnd();
      },
      passed: () => completeAtEnd(),
      isBehind: (partition, record) => ending?.isBehind(partition, record) ?? false,
    };
    const inFlight = new InFlight(maxInFlight, maxBytes, (position) => consumption?.acknowledge(position));
    const reading = progress(transport, parsed.topic, inFlight);

    const completeAtEnd = (): void => {
      if (ending?.isReached) out.complete();
    };

    const watch = (known: TopicDescription): (() => void) => {
      const unwatchTopic = watchTopic(transport, parsed.topic, known, {
        grown(partitions) {
          if (parsed.partitions === 'any-order') warnOfAnyOrder(parsed.topic, partitions);
          else chosenPartition(parsed.topic, parsed.partitions, partitions);
        },
        failed: (error) => out.error(error),
      });
      const end = options.watch ? everyMinute(options.watch) : () => {};
      return () => {
        unwatchTopic();
        end();
      };
    };

    const start = async (): Promise<void> => {
      const { topic, group, until } = options;
      const known = await describeTopic(transport, topic);
      requireTopicId(topic, options.topicId, known.id);
      const byTime = typeof until === 'object' && 'timeMs' in until;
      await requireFit(transport, topic, 'gradients', { byTime });
      const only = chosenPartition(topic, parsed.partitions ?? namedBy(until), known.partitions);
      if (only === null) warnOfAnyOrder(topic, known.partitions);
      const isRead = (partition: number): boolean => only === null || partition === only;
      const asked = only === null || known.partitions === 1 ? options.from : await onlyFrom(transport, topic, options.from, only);
      if (until) ending = await Ending.of(transport, topic, asked, until);
      const from = ending ? ending.from : asked;
      completeAtEnd();
      if (out.closed) return;
      const topicId = known.id ?? undefined;
      feed = new EventFeed({ inFlight, seen, topicId, where: options.where }, reader);
      consumption = await transport.consume({
        topic,
        whole: true,
        ...(topicId === undefined ? {} : { topicId }),
        ...(from === undefined ? {} : { from }),
        ...(group === undefined ? {} : { group }),
        deliver: (of, partition, records) => (isRead(partition) ? feed!.deliver(of, partition, records) : undefined),
        onReached: (partition, nextOffset) => {
          if (isRead(partition)) reader.read(partition, nextOffset);
        },
        onRevoked: reading.leave,
        onStop: () => {
          // Not by whoever reads it.
          if (!out.closed) out.error(closedTransport(transport.name));
        },
        onError: (error) => out.error(error),
      });
      if (out.closed) await consumption.stop();
      else if (!until) unwatch = watch(known);
    };

    start().catch((error: unknown) => out.error(error));
    return () => {
      inFlight.close();
      reading.stop();
      unwatch();
      consumption?.stop().catch(() => {});
    };
  });
}

/** The partition whose offset `until` names, where it is the only one: nothing of the others is read. */
function namedBy(until: Until | undefined): readonly number[] | undefined {
  const named = typeof until === 'object' && 'offsets' in until ? [...until.offsets.keys()] : [];
  return named.length === 1 ? named : undefined;
}
