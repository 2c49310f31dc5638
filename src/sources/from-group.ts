import { Observable } from 'rxjs';
import * as v from 'valibot';
import { isRxgradError } from '../errors.ts';
import { count, parseOptions } from '../options.ts';
import { type AssignedPartition, type FromGroupOptions, Membership } from './group-membership.ts';
import type { Transport } from './transport.ts';

export type { AssignedPartition, FromGroupOptions, PartitionStart } from './group-membership.ts';

/** A partition that is fenced so many times in a row ends the member. */
const MOST_FENCINGS = 5;
/** One that was held for so long was not fenced by whoever fenced it before. */
const HELD_MS = 60_000;
const FIRST_PAUSE_MS = 1000;

const name = v.pipe(v.string(), v.nonEmpty('a name'));
const schema = v.looseObject({
  topic: name,
  group: name,
  prepare: v.function(),
  maxInFlight: v.optional(count, 1000),
  maxBytes: v.optional(count, 64 << 20),
});

/**
 * Joins a group, and emits each partition that this member gets: its events begin where `prepare` says. A partition whose state another
 * writer has fenced is given back: the member leaves the group and joins it again, after pauses that grow. Fails with `fenced` where that
 * happens to one partition more than five times in a row, each within a minute after it was prepared: something outside the group writes its state.
 */
export function fromGroup<P>(transport: Transport, options: FromGroupOptions<P>): Observable<AssignedPartition<P>> {
  const { maxInFlight, maxBytes } = parseOptions(schema, options, 'fromGroup');
  return new Observable((out) => {
    const fencings = new Fencings(options.topic);
    let membership: Membership<P> | null = null;
    let pause: NodeJS.Timeout | undefined;

    function join(): void {
      membership = new Membership(transport, { ...options, maxInFlight, maxBytes }, out, giveBack);
      membership.join().catch((error: unknown) => out.error(error));
    }

    /** A group takes no single partition back: this member leaves it with all of them. */
    function giveBack(from: Membership<P>, partition: number, reason: Error, heldMs: number): void {
      const pauseMs = fencings.note(partition, reason, heldMs);
      if (pauseMs === null) {
        out.error(reason);
        return;
      }
      void from.leave().then(() => {
        if (!out.closed) pause = setTimeout(join, pauseMs);
      });
    }

    join();
    return () => {
      clearTimeout(pause);
      membership?.close();
    };
  });
}

/** Counts how often partitions were fenced in a row: two that believe to own one would take it from one another without end. */
class Fencings {
  readonly #topic: string;
  readonly #inARow = new Map<number, number>();

  constructor(topic: string) {
    this.#topic = topic;
  }

  /** Milliseconds to wait before the group is joined again; null where that is over. */
  note(partition: number, reason: Error, heldMs: number): number | null {
    const times = 1 + (heldMs < HELD_MS ? (this.#inARow.get(partition) ?? 0) : 0);
    this.#inARow.set(partition, times);
    if (times > MOST_FENCINGS) return null;
    const why = isRxgradError(reason) ? `${reason.details.where}: ${reason.details.problem}` : reason.message;
    process.emitWarning(
      `${this.#topic}/${partition} is given back: ${why}. This member leaves its group and joins it again; ` +
        'the member that gets the partition takes its store over and goes on from the newest checkpoint',
      { code: 'RXGRAD_PARTITION_FENCED' },
    );
    // The first time it was most probably a member that had stood still.
    return times === 1 ? 0 : FIRST_PAUSE_MS * 2 ** (times - 2);
  }
}
