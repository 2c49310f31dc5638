import { RxgradError } from '../../errors.ts';
import type { PartitionBounds } from '../topic-bounds.ts';
import type { DeliveryLane } from './delivery-lane.ts';

/**
 * After so many seconds a partition that ought to move and does not fails its consumption: records of it were fetched or lie in the log,
 * none was delivered, and no call of the user is under way. Only seconds count in which this process ran and the brokers answered.
 */
export const stillLimitS = 60;
const intervalMs = 1000;
/** A partition that has not moved for so long is compared with its log, and again each time as much has passed. */
const askEveryS = 10;

export interface StillWatchContext {
  readonly topic: string;
  /** What the log holds up to its last stable offset: the records of an open transaction cannot be delivered yet. */
  readonly bounds: () => Promise<PartitionBounds[]>;
  /** The next offset by partition that the group has acknowledged. */
  readonly acknowledged: () => Promise<ReadonlyMap<number, number>>;
  /** The lanes of the partitions that belong to this member now and wait for no call of the user. */
  readonly lanes: () => ReadonlyMap<number, DeliveryLane>;
  /** When the brokers last answered, for the error. */
  readonly lastHeard: () => string;
  readonly onStill: (error: RxgradError) => void;
}

interface Stillness {
  readonly lane: DeliveryLane;
  readonly mark: string;
  /** Seconds since the lane moved. */
  seconds: number;
  /** Of these, the seconds since the log, when it was last asked, held more than was delivered; null where it did not. */
  behindS: number | null;
  end: number | null;
}

/**
 * Watches that the partitions of a consumption move, whatever might keep them from it: a fault of this kind is reported after
 * {@link stillLimitS} seconds instead of standing still in silence. `tick` is to be called once a second.
 */
export function stillWatch({ topic, bounds, acknowledged, lanes, lastHeard, onStill }: StillWatchContext) {
  let known = new Map<number, Stillness>();
  let asking = false;

  async function compare(quiet: readonly (readonly [number, Stillness])[]): Promise<void> {
    // A coordinator or a leader that does not answer is out of reach: how long that may be is up to reconnectForMs.
    const answers = await Promise.all([bounds(), acknowledged()]).catch(() => null);
    for (const [partition, still] of quiet) {
      const held = answers?.[0][partition];
      if (!answers || !held) {
        still.behindS = null;
        continue;
      }
      const start = Math.max(held.first, answers[1].get(partition) ?? held.first);
      const isBehind = still.lane.waits() > 0 || held.end > (still.lane.fetchedUpTo() ?? start);
      still.end = held.end;
      still.behindS = isBehind ? (still.behindS ?? 0) : null;
    }
  }

  function advance(partition: number, lane: DeliveryLane): Stillness {
    const before = known.get(partition);
    const mark = `${lane.next()} ${lane.fetchedUpTo()} ${lane.waits()}`;
    if (before?.lane !== lane || before.mark !== mark) return { lane, mark, seconds: 0, behindS: null, end: null };
    before.seconds += 1;
    // What is asked now may be so because no broker answers.
    if (before.behindS !== null && !asking) before.behindS += 1;
    return before;
  }

  return {
    tick(): void {
      const now = new Map<number, Stillness>();
      for (const [partition, lane] of lanes()) if (!lane.isDelivering()) now.set(partition, advance(partition, lane));
      known = now;
      const stuck = [...known].find(([, { behindS }]) => behindS !== null && behindS >= stillLimitS);
      if (stuck) {
        onStill(stalled(`${topic}/${stuck[0]}`, stuck[1], lastHeard()));
        return;
      }
      const quiet = [...known].filter(([, { seconds }]) => seconds > 0 && seconds % askEveryS === 0);
      if (asking || quiet.length === 0) return;
      asking = true;
      void compare(quiet).finally(() => {
        asking = false;
      });
    },
  };
}

function stalled(where: string, { lane, end }: Stillness, lastHeard: string): RxgradError {
  const next = lane.next() ?? 'the one that the group has acknowledged';
  const waits = lane.waits();
  const problem = waits > 0 ? `${waits} batches of it were fetched and wait` : 'nothing more of it was fetched';
  return new RxgradError('consumptionStalled', { where, seconds: stillLimitS, next, end: end ?? 0, problem, lastHeard });
}

/** Calls `tick` for each second in which the process runs. Returns what ends that. */
export function everySecond(tick: () => void): () => void {
  const ticking = setInterval(tick, intervalMs).unref();
  return () => clearInterval(ticking);
}
