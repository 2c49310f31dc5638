import { Observable, Subject } from 'rxjs';
import * as v from 'valibot';
import type { OnceState, TrainingEvent } from '../events.ts';
import { count, parseOptions } from '../options.ts';
import { requireFit } from './check-topic.ts';
import { describeTopic } from './describe-topic.ts';
import { EventFeed, type FeedOptions } from './event-feed.ts';
import { InFlight } from './in-flight.ts';
import { progress } from './progress.ts';
import { closedTransport } from './topic-bounds.ts';
import type { Consumption, LogRecord, Transport } from './transport.ts';

/** Where a partition goes on. */
export interface PartitionStart {
  /** The first offset that is read. */
  readonly next: number;
  /** What was counted before. */
  readonly seen?: OnceState | undefined;
}

export interface FromGroupOptions<P> {
  readonly topic: string;
  /** Consumer group: its members share the topic's partitions. */
  readonly group: string;
  /** Prepares for a partition that this member got, before anything of it is read: it may take its time. */
  readonly prepare: (partition: number) => Promise<{ readonly start: PartitionStart; readonly prepared: P }>;
  /** Events of one partition handed out and not acknowledged, at most. Default 1000. */
  readonly maxInFlight?: number;
  /** Bytes of such events, at most; a single larger event still goes through, alone. Default 64 MiB. */
  readonly maxBytes?: number;
}

/** A partition that this member of a group has got. */
export interface AssignedPartition<P> {
  readonly partition: number;
  readonly prepared: P;
  /** Its events, for one subscriber. They complete when the partition moves to another member. */
  readonly events$: Observable<TrainingEvent>;
  /** To be called once everything that the events led to is done; a partition that moved away is waited for. */
  finished(): void;
}

/** Of so much there may be left to do for a partition that moved away. */
const FINISH_MS = 10_000;

const name = v.pipe(v.string(), v.nonEmpty('a name'));
const schema = v.looseObject({
  topic: name,
  group: name,
  prepare: v.function(),
  maxInFlight: v.optional(count, 1000),
  maxBytes: v.optional(count, 64 << 20),
});

/** Joins a group, and emits each partition that this member gets: its events begin where `prepare` says. */
export function fromGroup<P>(transport: Transport, options: FromGroupOptions<P>): Observable<AssignedPartition<P>> {
  const { topic, group, maxInFlight, maxBytes } = parseOptions(schema, options, 'fromGroup');
  return new Observable((out) => {
    const lanes = new Map<number, Lane>();
    let consumption: Consumption | null = null;

    let topicId: string | undefined;

    function open(partition: number, prepared: P, seen: OnceState | undefined): void {
      const inFlight = new InFlight(maxInFlight, maxBytes, (position) => {
        if (!lane.over) consumption?.acknowledge(position);
      });
      const lane: Lane = new Lane({ inFlight, seen, topicId }, transport, topic);
      lanes.set(partition, lane);
      out.next({ partition, prepared, events$: lane.events$.asObservable(), finished: lane.finished.resolve });
    }

    async function assign(partitions: readonly number[]): Promise<ReadonlyMap<number, number>> {
      const ready = partitions.map(async (partition) => ({ partition, ...(await options.prepare(partition)) }));
      const starts = new Map<number, number>();
      for (const { partition, start, prepared } of await Promise.all(ready)) {
        starts.set(partition, start.next);
        if (!out.closed) open(partition, prepared, start.seen);
      }
      return starts;
    }

    async function revoke(partitions: readonly number[]): Promise<void> {
      const left = partitions.flatMap((partition) => lanes.get(partition) ?? []);
      for (const partition of partitions) lanes.delete(partition);
      for (const lane of left) lane.end();
      const finishing = Promise.all(left.map((lane) => lane.finished.promise));
      await Promise.race([finishing, new Promise((resolve) => setTimeout(resolve, FINISH_MS).unref())]);
    }

    const start = async (): Promise<void> => {
      topicId = (await describeTopic(transport, topic)).id ?? undefined;
      await requireFit(transport, topic, 'gradients');
      if (out.closed) return;
      consumption = await transport.consume({
        topic,
        group,
        whole: true,
        topicId,
        deliver: (of, partition, records) => lanes.get(partition)?.deliver(of, partition, records),
        onReached: (partition, next) => lanes.get(partition)?.reached(partition, next),
        onAssigned: assign,
        onRevoked: revoke,
        onStop: () => {
          // Not by whoever reads it.
          if (!out.closed) out.error(closedTransport(transport.name));
        },
        onError: (error) => out.error(error),
      });
      if (out.closed) await consumption.stop();
    };
    start().catch((error: unknown) => out.error(error));
    return () => {
      for (const lane of lanes.values()) lane.close();
      consumption?.stop().catch(() => {});
    };
  });
}

/** One partition's events. */
class Lane {
  readonly events$ = new Subject<TrainingEvent>();
  readonly finished = Promise.withResolvers<void>();
  readonly #feed: EventFeed;
  readonly #reading: ReturnType<typeof progress>;
  over = false;

  constructor(options: FeedOptions, transport: Transport, topic: string) {
    const lane = this;
    const reader = {
      get closed() {
        return lane.over;
      },
      next: (event: TrainingEvent) => this.events$.next(event),
      read: (partition: number, next: number) => this.reached(partition, next),
    };
    this.#feed = new EventFeed(options, reader);
    this.#reading = progress(transport, topic, this.#feed.inFlight);
  }

  deliver(topic: string, partition: number, records: readonly LogRecord[]): void | Promise<void> {
    return this.#feed.deliver(topic, partition, records);
  }

  reached(partition: number, next: number): void {
    this.#reading.at(partition, next);
  }

  /** Ends the events: what they led to goes to its end. */
  end(): void {
    this.close();
    this.events$.complete();
  }

  close(): void {
    this.over = true;
    this.#feed.inFlight.close();
    this.#reading.stop();
  }
}
