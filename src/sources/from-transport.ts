import { Observable } from 'rxjs';
import * as v from 'valibot';
import type { OnceState, TrainingEvent } from '../events.ts';
import { count, finite, parseOptions } from '../options.ts';
import { Ending, type Until } from './ending.ts';
import { EventFeed, type FeedReader } from './event-feed.ts';
import { progress } from './progress.ts';
import type { ConsumeOptions, Consumption, Transport } from './transport.ts';

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
  /** What was counted before, where the stream goes on from a checkpoint: see `recover`. */
  readonly seen?: OnceState | undefined;
  /** Leaves events out before anybody sees them, and acknowledges them. */
  readonly where?: (event: TrainingEvent) => boolean;
}

const name = v.pipe(v.string(), v.nonEmpty('a name'));
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
        v.strictObject({ offsets: v.map(v.number(), v.pipe(v.number(), v.safeInteger(), v.minValue(0))) }),
        v.strictObject({ timeMs: finite }),
      ]),
    ),
    seen: v.optional(v.custom<OnceState>((value) => typeof value === 'object' && value !== null, 'what `recover` gave')),
    where: v.optional(v.function()),
  }),
  v.check(({ until, group }) => !until || !group, '`until` without `group` (where a group begins is not known beforehand)'),
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
    const feed = new EventFeed({ maxInFlight, maxBytes, seen, where: options.where }, reader, (position) =>
      consumption?.acknowledge(position),
    );
    const reading = progress(transport, parsed.topic, feed.inFlight);

    const completeAtEnd = (): void => {
      if (ending?.isReached) out.complete();
    };

    const start = async (): Promise<void> => {
      const { topic, group } = options;
      if (options.until) ending = await Ending.of(transport, topic, options.from, options.until);
      const from = ending ? ending.from : options.from;
      completeAtEnd();
      if (out.closed) return;
      consumption = await transport.consume({
        topic,
        ...(from === undefined ? {} : { from }),
        ...(group === undefined ? {} : { group }),
        deliver: (...delivery) => feed.deliver(...delivery),
        onReached: (partition, nextOffset) => reader.read(partition, nextOffset),
        onRevoked: reading.leave,
        onError: (error) => out.error(error),
      });
      if (out.closed) await consumption.stop();
    };

    start().catch((error: unknown) => out.error(error));
    return () => {
      feed.inFlight.close();
      reading.stop();
      consumption?.stop().catch(() => {});
    };
  });
}
