import type { WeightsUpdate } from '../optimizers/weights-update.ts';
import { expectOption } from '../options.ts';
import type { Transport } from '../sources/transport.ts';
import { Publisher, type PublisherOptions } from './publisher.ts';

export interface PublishingOptions extends PublisherOptions {
  readonly everySteps?: number | undefined;
  readonly everyMs?: number | undefined;
  readonly conflate: boolean;
  readonly writer?: string | undefined;
}

/**
 * Decides when weights are published. While a publication is under way, those that come due make place for the newest, whose
 * weights are copied when its turn comes; or the scan is held.
 */
export class Publishing {
  readonly #publisher: Publisher;
  readonly #options: PublishingOptions;
  readonly #fail: (error: unknown) => void;
  #opening: Promise<void> | null = null;
  /** Set while the publisher is being opened, or sends. */
  #busy: Promise<void> | null = null;
  #last: WeightsUpdate | null = null;
  #isDue = false;
  #publishedAtMs = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #ended = false;
  #closing: Promise<void> | null = null;

  constructor(transport: Transport, options: PublishingOptions, fail: (error: unknown) => void) {
    this.#publisher = new Publisher(transport, options);
    this.#options = options;
    this.#fail = fail;
  }

  next(update: WeightsUpdate): void {
    if (this.#ended) return;
    this.#last = update;
    this.#publisher.follow(update);
    if (!this.#opening) {
      this.#opening = this.#publisher.open(update.params.course, this.#id, this.#failed, () => {
        this.#isDue = true;
        this.#attempt();
      });
      this.#work(this.#opening);
    }
    if (this.#comesDue(update)) this.#isDue = true;
    if (!this.#isDue || !this.#fits(update)) return;
    if (this.#options.conflate || update.kept) {
      if (!this.#busy && isThere(update)) this.#publish(update);
      return;
    }
    // Nothing is ever left out: what cannot be sent yet is waited for, and nobody steps meanwhile.
    const expected = 'true, where updates come after further steps';
    expectOption(update.params.version === update.version, 'publishWeights: conflate', expected, false);
    update.params.seat.hold(this.#busy ? this.#busy.then(() => this.#publishHeld(update)) : this.#publishHeld(update));
  }

  /** Sends what is due still, and ends. */
  async finish(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#timer) this.#isDue = true;
    this.#timer = undefined;
    // What is due goes out when the one before it has.
    this.#attempt();
    while (this.#busy) await this.#busy;
    this.close();
    await this.#closing;
  }

  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#closing = (async () => {
      await this.#busy;
      await this.#publisher.close();
    })().catch(() => undefined);
  }

  readonly #failed = (error: unknown): void => {
    if (this.#ended) return;
    this.close();
    this.#fail(error);
  };

  #comesDue({ version, kept }: WeightsUpdate): boolean {
    const { everySteps, everyMs } = this.#options;
    // What a gate lets through comes seldom.
    if (kept) return true;
    if (everySteps !== undefined) return version % everySteps === 0;
    const leftMs = this.#publishedAtMs + everyMs! - performance.now();
    if (leftMs <= 0) return true;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#isDue = true;
      this.#attempt();
    }, leftMs);
    return false;
  }

  /** Whether a version may be published: shards publish the same ones. */
  #fits({ version, kept }: WeightsUpdate): boolean {
    const { shards, everySteps } = this.#options;
    return shards === 1 || kept !== null || version % everySteps! === 0;
  }

  /** Publishes the newest weights, if something is due and no step is writing them. */
  #attempt(): void {
    const update = this.#last;
    if (this.#ended || this.#busy || !this.#isDue || !update) return;
    if (!isThere(update) || !(update.kept || update.params.settled) || !this.#fits(update)) return;
    try {
      this.#publish(update);
    } catch (error) {
      this.#failed(error);
    }
  }

  #publish(update: WeightsUpdate): void {
    this.#isDue = false;
    if (!this.#publisher.isNew(update)) return;
    this.#publishedAtMs = performance.now();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#work(this.#publisher.copy(update)());
  }

  async #publishHeld(update: WeightsUpdate): Promise<void> {
    if (this.#ended) return;
    try {
      this.#publish(update);
    } catch (error) {
      this.#failed(error);
    }
    await this.#busy;
  }

  /** Keeps at one thing at a time. */
  #work(work: Promise<void>): void {
    const busy = work.catch(this.#failed).then(() => {
      if (this.#busy !== busy) return;
      this.#busy = null;
      if (this.#options.conflate || this.#last?.kept) this.#attempt();
    });
    this.#busy = busy;
  }

  get #id(): string {
    const { writer, model, shard } = this.#options;
    return writer ?? `rxgrad-weights-${model}-${shard}`;
  }
}

/** Whether the weights of an update can still be had: they are the newest, or a gate has kept them. */
function isThere({ params, average, version, kept }: WeightsUpdate): boolean {
  return kept ? (average ?? params).kept.has(kept.version) : params.version === version;
}
