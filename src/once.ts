import { type RejectionReason, RxgradError } from './errors.ts';
import { type EpochBoundary, type GradientBatch, type OnceState, placeOf } from './events.ts';

/** Lets each worker's sequence numbers, and the numbers of epochs, through in rising order: nothing is counted twice. */
export class Once {
  readonly #sequences = new Map<string, number>();
  #epoch = -1;

  /** Why a batch is not new, or null. One that was merged is not when any of its parts is not. */
  refuse({ facts, delivery }: GradientBatch): RxgradError<RejectionReason> | null {
    for (const { worker, sequence } of facts.members ?? [facts]) {
      const last = worker === undefined ? undefined : this.#sequences.get(worker);
      if (last === undefined || sequence === undefined || sequence > last) continue;
      return new RxgradError('duplicate', { where: placeOf(delivery), worker: worker!, expected: last, got: sequence });
    }
    return null;
  }

  /** Notes a batch that was applied. One that was rejected may come again. */
  applied({ facts }: GradientBatch): void {
    for (const { worker, sequence } of facts.members ?? [facts]) {
      if (worker !== undefined && sequence !== undefined) this.#sequences.set(worker, sequence);
    }
  }

  /** Notes an epoch, or tells why it does not count. */
  refuseEpoch({ epoch, delivery }: EpochBoundary): RxgradError<RejectionReason> | null {
    const where = placeOf(delivery);
    if (!Number.isSafeInteger(epoch) || epoch < 0) {
      return new RxgradError('undecodable', { where, expected: 'an epoch as a whole number of at least 0', got: String(epoch) });
    }
    if (epoch <= this.#epoch) return new RxgradError('repeatedEpoch', { where, expected: this.#epoch, got: epoch });
    this.#epoch = epoch;
    return null;
  }

  state(): OnceState {
    return { sequences: [...this.#sequences], epoch: this.#epoch };
  }

  restore({ sequences, epoch }: OnceState): void {
    for (const [worker, sequence] of sequences) this.#sequences.set(worker, sequence);
    this.#epoch = epoch;
  }
}
