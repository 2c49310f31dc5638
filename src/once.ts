import { type RejectionReason, RxgradError } from './errors.ts';
import {
  type EpochBoundary,
  type GradientBatch,
  type MemberFacts,
  type MergedBatch,
  type OnceState,
  type Position,
  placeOf,
} from './events.ts';
import { NowAndThen, warnOnce } from './seen/now-and-then.ts';
import { addColumns, addSequences, columnsOf } from './seen/seen-columns.ts';
import { MAX_WORKERS, type SeenWorker, SeenWorkers } from './seen/seen-workers.ts';
import { WINDOW } from './seen/sequence-window.ts';
import { boundedWorker } from './worker-id.ts';

/** So many duplicates of a worker in a row look like a worker that counts from the beginning again. */
const SUSPICIOUS_REPEATS = 100;

/**
 * Lets each sequence of a worker through once in a partition, in whatever order they come, as far as the last 1,024 below the
 * highest; and the numbers of epochs in rising order. So nothing is counted twice.
 */
export class Once {
  readonly #seen: SeenWorkers;
  readonly #late = new NowAndThen('RXGRAD_OUT_OF_ORDER');
  readonly #repeated = new NowAndThen('RXGRAD_WORKER_REPEATS');
  readonly #left = new NowAndThen('RXGRAD_WORKERS_FORGOTTEN');
  #epoch = -1;

  constructor(seen = new SeenWorkers()) {
    this.#seen = seen;
  }

  /** Why a batch is not new, or null. One that was merged is not when any of its parts is not. */
  refuse({ facts, delivery }: GradientBatch): RxgradError<RejectionReason> | null {
    if (!facts.members) return this.#refuse(facts, delivery?.position ?? null);
    for (const member of facts.members) {
      const error = this.#refuse(member, member.position ?? null);
      if (error) return error;
    }
    return null;
  }

  /** Notes a batch that was applied. One that was rejected may come again. */
  applied({ facts, delivery }: MergedBatch): void {
    if (!facts.members) this.#note(facts, delivery?.position ?? null);
    else for (const member of facts.members) this.#note(member, member.position ?? null);
  }

  /** Notes an epoch, or tells why it does not count. */
  refuseEpoch({ epoch, delivery }: EpochBoundary): RxgradError<RejectionReason> | null {
    const where = placeOf(delivery);
    if (!isCount(epoch)) {
      return new RxgradError('undecodable', { where, expected: 'an epoch as a whole number of at least 0', got: String(epoch) });
    }
    if (epoch <= this.#epoch) return new RxgradError('repeatedEpoch', { where, expected: this.#epoch, got: epoch });
    this.#epoch = epoch;
    return null;
  }

  state(): OnceState {
    return { epoch: this.#epoch, ...columnsOf(this.#seen) };
  }

  restore(state: OnceState): void {
    addColumns(this.#seen, state);
    this.#epoch = state.epoch;
  }

  #refuse(facts: MemberFacts, position: Position | null): RxgradError<RejectionReason> | null {
    const { worker, sequence, incarnation = 0 } = facts;
    if (!worker || sequence === undefined) {
      if (position) warnUnchecked(position, worker ? 'no sequence (ce_id)' : 'no worker (ce_source)');
      return null;
    }
    if (!isCount(sequence) || !isCount(incarnation)) {
      const expected = 'sequence and incarnation as whole numbers of at least 0';
      return new RxgradError('undecodable', { where: whereOf(position), expected, got: `${sequence} and ${incarnation}` });
    }
    const known = this.#seen.find(this.#seen.at(position), boundedWorker(worker));
    if (!known || incarnation > known.incarnation) return null;
    if (incarnation < known.incarnation) {
      return this.#tooLate(`incarnation ${known.incarnation} or a later one`, worker, `${incarnation}`, position);
    }
    const verdict = known.window.verdict(sequence);
    if (verdict === 'new') return null;
    const { highest } = known.window;
    if (verdict === 'below') {
      return this.#tooLate(`a sequence above ${highest - WINDOW} (the highest is ${highest})`, worker, `${sequence}`, position);
    }
    this.#countRepeat(known, position);
    return new RxgradError('duplicate', { where: whereOf(position), worker, expected: highest, got: sequence });
  }

  #note({ worker, sequence, incarnation = 0 }: MemberFacts, position: Position | null): void {
    if (!worker || sequence === undefined) return;
    const left = this.#seen.note(this.#seen.at(position), boundedWorker(worker), incarnation, sequence);
    if (!left) return;
    this.#left.warn(
      (count) =>
        `More than ${MAX_WORKERS} workers, or 32 MiB of their ids: ${count} that were not seen for the longest time were forgotten, the last one "${left.id}". What they sent before would be applied again`,
    );
  }

  #tooLate(expected: string, worker: string, got: string, position: Position | null): RxgradError<RejectionReason> {
    const error = new RxgradError<'outOfOrder'>('outOfOrder', { where: whereOf(position), worker, expected, got });
    this.#late.warn((count) => `${error.message}. ${count} so far were rejected like this`);
    return error;
  }

  #countRepeat(known: SeenWorker, position: Position | null): void {
    known.repeats += 1;
    if (known.repeats !== SUSPICIOUS_REPEATS) return;
    this.#repeated.warn(
      () =>
        `${whereOf(position)}: ${SUSPICIOUS_REPEATS} records in a row of worker "${known.id}" have sequences that it sent before, and are left out. If it was restarted and computes new gradients, it has to say so by a higher incarnation`,
    );
  }
}

/** The workers of a state that were seen last, the last one first. */
export function lastSeen(
  state: OnceState,
  most = Number.POSITIVE_INFINITY,
): { readonly worker: string; readonly highest: number; readonly incarnation: number }[] {
  const seen = new SeenWorkers();
  addColumns(seen, state);
  const all = [...seen].reverse().slice(0, most);
  return all.map(({ id, window, incarnation }) => ({ worker: id, highest: window.highest, incarnation }));
}

/** A state as it is kept: its columns aside; older ones have the last sequences in their place. */
export function onceStateOf(
  { epoch, partitions, sequences }: Omit<OnceState, 'arrays'> & { readonly sequences?: readonly [string, number][] | undefined },
  arrays: OnceState['arrays'],
  positions: readonly (readonly [topic: string, partition: number, next: number])[],
): OnceState {
  if (!sequences) return { epoch, partitions, arrays };
  const seen = new SeenWorkers();
  addSequences(seen, sequences, positions);
  return { epoch, ...columnsOf(seen) };
}

function warnUnchecked(position: Position, missing: string): void {
  const { topic } = position;
  warnOnce(
    'RXGRAD_NO_DUPLICATE_CHECK',
    topic,
    () =>
      `${whereOf(position)}: a batch with ${missing} cannot be told from one that comes twice: it is applied each time it comes. This is said once for a topic`,
  );
}

function whereOf(position: Position | null): string {
  return placeOf(position && { position });
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
