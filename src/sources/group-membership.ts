import { type Observable, Subject, type Subscriber } from 'rxjs';
import { isFenced } from '../errors.ts';
import type { OnceState, TrainingEvent } from '../events.ts';
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
  /**
   * Prepares for a partition that this member got, before anything of it is read: it may take its time. Where it fails with `fenced`, the
   * partition is given back, as by `giveBack`.
   */
  readonly prepare: (partition: number) => Promise<{ readonly start: PartitionStart; readonly prepared: P }>;
  /** Is called with what was prepared for a partition that moved away before it could be handed out. */
  readonly discard?: (prepared: P) => void;
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
  /**
   * To be called where another writer has fenced what keeps the partition's state. The member leaves the group and joins it again, so that
   * the group says anew whose the partition is, and whoever gets it prepares it. Does nothing where it has moved away already.
   */
  giveBack(reason: Error): void;
}

/** Of so much there may be left to do for a partition that moved away. */
const FINISH_MS = 10_000;

/** Is told of a partition that this membership has, but whose state another writer has fenced, so many milliseconds after it was prepared. */
type GiveBack<P> = (membership: Membership<P>, partition: number, reason: Error, heldMs: number) => void;

/** One membership of a group, from joining it to leaving it: hands out the partitions that the group gives to this member. */
export class Membership<P> {
  readonly #transport: Transport;
  readonly #options: FromGroupOptions<P> & { readonly maxInFlight: number; readonly maxBytes: number };
  readonly #out: Subscriber<AssignedPartition<P>>;
  readonly #giveBack: GiveBack<P>;
  readonly #lanes = new Map<number, Lane>();
  #consumption: Consumption | null = null;
  #topicId: string | undefined;
  #over = false;

  constructor(
    transport: Transport,
    options: FromGroupOptions<P> & { readonly maxInFlight: number; readonly maxBytes: number },
    out: Subscriber<AssignedPartition<P>>,
    giveBack: GiveBack<P>,
  ) {
    this.#transport = transport;
    this.#options = options;
    this.#out = out;
    this.#giveBack = giveBack;
  }

  async join(): Promise<void> {
    const { topic, group } = this.#options;
    this.#topicId = (await describeTopic(this.#transport, topic)).id ?? undefined;
    await requireFit(this.#transport, topic, 'gradients');
    if (this.#over) return;
    this.#consumption = await this.#transport.consume({
      topic,
      group,
      whole: true,
      topicId: this.#topicId,
      deliver: (of, partition, records) => this.#lanes.get(partition)?.deliver(of, partition, records),
      onReached: (partition, next) => this.#lanes.get(partition)?.reached(partition, next),
      onAssigned: (partitions) => this.#assign(partitions),
      onRevoked: (partitions) => this.#revoke(partitions),
      onStop: () => {
        // Not by whoever reads it.
        if (!this.#over) this.#out.error(closedTransport(this.#transport.name));
      },
      onError: (error) => {
        if (!this.#over) this.#out.error(error);
      },
    });
    if (this.#over) await this.#consumption.stop();
  }

  /** Ends all partitions, waits until what their events led to is done, and leaves the group. */
  async leave(): Promise<void> {
    this.#over = true;
    await this.#revoke([...this.#lanes.keys()]);
    await this.#consumption?.stop().catch(() => {});
  }

  /** Leaves the group at once: nobody listens any more. */
  close(): void {
    this.#over = true;
    for (const lane of this.#lanes.values()) lane.close();
    this.#consumption?.stop().catch(() => {});
  }

  async #assign(partitions: readonly number[]): Promise<ReadonlyMap<number, number>> {
    const { prepare, discard } = this.#options;
    const settled = await Promise.allSettled(partitions.map(async (partition) => prepare(partition)));
    const failures = settled.flatMap((result, i) =>
      result.status === 'rejected' ? [{ partition: partitions[i]!, reason: result.reason as Error }] : [],
    );
    const failure = failures.find(({ reason }) => !isFenced(reason)) ?? failures[0];
    const starts = new Map<number, number>();
    for (const [i, result] of settled.entries()) {
      if (result.status === 'rejected') continue;
      const { start, prepared } = result.value;
      starts.set(partitions[i]!, start.next);
      if (failure || this.#over) discard?.(prepared);
      else this.#open(partitions[i]!, prepared, start.seen);
    }
    if (!failure || this.#over) return starts;
    if (!isFenced(failure.reason)) throw failure.reason;
    // Another member has been given it meanwhile, or believes so: the group says whose it is.
    this.#giveBack(this, failure.partition, failure.reason, 0);
    return new Map();
  }

  #open(partition: number, prepared: P, seen: OnceState | undefined): void {
    const { topic, maxInFlight, maxBytes } = this.#options;
    const inFlight = new InFlight(maxInFlight, maxBytes, (position) => {
      if (!lane.over) this.#consumption?.acknowledge(position);
    });
    const lane: Lane = new Lane({ inFlight, seen, topicId: this.#topicId }, this.#transport, topic);
    this.#lanes.set(partition, lane);
    const openedMs = performance.now();
    this.#out.next({
      partition,
      prepared,
      events$: lane.events$.asObservable(),
      finished: lane.finished.resolve,
      giveBack: (reason) => {
        if (this.#lanes.get(partition) !== lane || this.#over) return;
        this.#giveBack(this, partition, reason, performance.now() - openedMs);
      },
    });
  }

  async #revoke(partitions: readonly number[]): Promise<void> {
    const left = partitions.flatMap((partition) => this.#lanes.get(partition) ?? []);
    for (const partition of partitions) this.#lanes.delete(partition);
    for (const lane of left) lane.end();
    const finishing = Promise.all(left.map((lane) => lane.finished.promise));
    await Promise.race([finishing, new Promise((resolve) => setTimeout(resolve, FINISH_MS).unref())]);
  }
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
