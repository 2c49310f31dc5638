import { type RejectionReason, RxgradError } from '../errors.ts';
import { type Delivery, GradientBatch, type Rejection, rejection, type TrainingEvent } from '../events.ts';
import { channels } from '../observe/channels.ts';

/** Gets what a scan leaves out. */
export interface RejectionSink {
  /** Where it returns a promise, the scan takes no further event until that resolves, and fails where it rejects. */
  readonly next?: (rejection: Rejection) => unknown;
  /**
   * Resolves when all that it was given is kept for good. The scan acknowledges a rejected event, and those behind it, no
   * sooner, and neither completes nor fails before.
   */
  readonly flushed?: () => Promise<void>;
}

/**
 * What a scan does with what it leaves out: reports it, passes it on, counts those in a row, and acknowledges nothing before it
 * is kept.
 */
export class Rejections {
  readonly #sink: RejectionSink;
  readonly #most: number;
  readonly #at: string;
  readonly #fail: (error: unknown) => void;
  #inARow = 0;
  /** What waits for a rejection to be kept. */
  #held: Held | null = null;
  #keeping: Promise<void> | null = null;
  #closed = false;

  constructor(sink: RejectionSink, most: number, at: string, fail: (error: unknown) => void) {
    this.#sink = sink;
    this.#most = most;
    this.#at = at;
    this.#fail = fail;
  }

  /** Makes the rejection of an event that this scan refuses. */
  of(event: TrainingEvent, error: RxgradError<RejectionReason>): Rejection {
    const facts = event instanceof GradientBatch ? event.facts : {};
    const known = event instanceof GradientBatch || event.kind === 'epoch' ? event : null;
    return rejection(error, event.delivery, facts, { at: this.#at, event: known });
  }

  /** Passes one on. Returns what has to be awaited before the next event, or null. */
  pass(rejected: Rejection): PromiseLike<unknown> | null {
    if (channels.rejection.hasSubscribers) channels.rejection.publish({ kind: 'rejection', at: this.#at, rejection: rejected });
    const passed = this.#sink.next?.(rejected);
    if (this.#sink.flushed) {
      this.#held ??= new Held();
      this.#held.rejects = true;
    }
    return isPromiseLike(passed) ? passed : null;
  }

  /** Counts one. Returns why the stream has to end, or null. */
  count({ error }: Rejection): RxgradError | null {
    // 409: the record itself was fine, it only came twice.
    if (error.status === 409) return null;
    this.#inARow += 1;
    if (this.#inARow < this.#most) return null;
    return new RxgradError('tooManyRejections', { count: this.#inARow, last: error.message }, { cause: error });
  }

  /** Notes a batch that was applied. */
  applied(): void {
    this.#inARow = 0;
  }

  /** Acknowledges an event: at once, or behind the rejections before it. */
  acknowledge({ delivery }: TrainingEvent): void {
    if (!this.#held) {
      delivery?.source.done(delivery.position);
      return;
    }
    if (delivery) this.#held.add(delivery);
    this.#keeping ??= this.#keep();
  }

  /** What is to be awaited until all of them are kept, or null where nothing is. */
  get keeping(): Promise<void> | null {
    return this.#keeping;
  }

  /** Resolves when all of them are kept. */
  async kept(): Promise<void> {
    await this.#sink.flushed?.();
  }

  /** Acknowledges no more. */
  close(): void {
    this.#closed = true;
    this.#held = null;
  }

  /** In rounds: what comes while the sink is asked waits for the next answer, where a rejection is among it. */
  async #keep(): Promise<void> {
    try {
      while (this.#held) {
        const round: Held = this.#held;
        this.#held = new Held();
        if (round.rejects) await this.#sink.flushed!();
        if (this.#closed) return;
        round.acknowledge();
        if (this.#held.isEmpty) this.#held = null;
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#keeping = null;
    }
  }
}

/** Acknowledgements to come: the last of each partition, which covers those before it. */
class Held {
  rejects = false;
  readonly #last: Pick<Delivery, 'position' | 'source'>[] = [];

  get isEmpty(): boolean {
    return !this.rejects && this.#last.length === 0;
  }

  /** Without its record: that would keep alive what it was read from. */
  add({ position, source }: Delivery): void {
    const same = (one: Pick<Delivery, 'position' | 'source'>): boolean =>
      one.source === source && one.position.partition === position.partition && one.position.topic === position.topic;
    const at = this.#last.findIndex(same);
    this.#last[at === -1 ? this.#last.length : at] = { position, source };
  }

  acknowledge(): void {
    for (const { position, source } of this.#last) source.done(position);
  }
}

function isPromiseLike(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}
