import { Tensor } from 'onnxruntime-node';
import type { Slot, SlotFacts } from '../params/left-right.ts';
import type { Weights, WeightsReader } from '../params/weights-reader.ts';

export type Feeds = Readonly<Record<string, Tensor>>;

const RUN = Symbol('run');

/**
 * Puts the live weights beside a prediction's own inputs, and keeps them marked while they are read.
 *
 * onnxruntime-node looks feeds up twice: when `run` is called, to check them, and in a later turn of the event loop, just
 * before it computes (blocking the thread). The weights are properties with getters, so that the choice of the version falls
 * in the second look: however many swaps happen in between, a prediction takes the newest version, and the scan never waits
 * for predictions that merely queue. Whether there is a second look is not promised anywhere; so the first prediction marks
 * its weights at the call, as all do if none comes.
 */
export class WeightFeeds {
  readonly #reader: WeightsReader;
  readonly #slots: SlotTensors;
  readonly #prototype: object;
  #looksTwice = false;

  constructor(reader: WeightsReader) {
    this.#reader = reader;
    this.#slots = new SlotTensors(reader);
    const getters = reader.places.map(({ name }) => [
      name,
      {
        enumerable: true,
        get(this: { [RUN]: WeightRun }): Tensor {
          return this[RUN].weights()[name]!;
        },
      },
    ]);
    this.#prototype = Object.create(null, Object.fromEntries(getters));
  }

  /** Begins a run over the live weights, or over those of a kept slot, which the caller holds. */
  begin(feeds: Feeds, slot: Slot | null = null): WeightRun {
    return new WeightRun(this.#reader, this.#slots, this.#looksTwice, slot, (run) => {
      const combined = Object.create(this.#prototype);
      combined[RUN] = run;
      return Object.assign(combined, feeds);
    });
  }

  /** Learns from a finished run whether the weights were looked up again after the call. */
  observe(run: WeightRun): void {
    this.#looksTwice ||= run.lookedUpLate;
  }
}

/** One prediction's hold on the weights. */
export class WeightRun {
  /** Inputs and weights by name, for `InferenceSession.run`. */
  readonly feeds: Feeds;
  lookedUpLate = false;
  /** When the computation began (in `performance.now()` terms), as far as it shows. */
  startedAt = performance.now();
  readonly #reader: WeightsReader;
  readonly #slots: SlotTensors;
  readonly #waitForLate: boolean;
  #called = false;
  #slot: Slot | null;

  constructor(
    reader: WeightsReader,
    slots: SlotTensors,
    waitForLate: boolean,
    slot: Slot | null,
    feedsOf: (run: WeightRun) => Feeds,
  ) {
    this.#reader = reader;
    this.#slots = slots;
    this.#waitForLate = waitForLate;
    this.#slot = slot;
    if (slot !== null) reader.hold(slot);
    this.feeds = feedsOf(this);
  }

  /** What is known of the weights, once the computation has begun and until {@link end}. */
  get facts(): SlotFacts {
    return this.#reader.facts(this.#slot ?? this.#reader.live);
  }

  /** The weights to be shown to whoever looks now. */
  weights(): Feeds {
    if (this.#called && !this.lookedUpLate) {
      this.lookedUpLate = true;
      this.startedAt = performance.now();
    }
    if (this.#slot === null && (this.#called || !this.#waitForLate)) this.#slot = this.#reader.acquire();
    return this.#slots.of(this.#slot ?? this.#reader.live);
  }

  /** To be told when the call has returned its promise. */
  called(): void {
    this.#called = true;
  }

  end(): void {
    if (this.#slot !== null) this.#reader.release(this.#slot);
  }
}

/** The weights of each slot as tensors, made when it is first read. */
class SlotTensors {
  readonly #reader: WeightsReader;
  readonly #known: { readonly weights: Weights; readonly tensors: Feeds }[] = [];

  constructor(reader: WeightsReader) {
    this.#reader = reader;
  }

  of(slot: Slot): Feeds {
    const weights = this.#reader.weights(slot);
    const known = this.#known[slot];
    if (known?.weights === weights) return known.tensors;
    const tensors = Object.fromEntries(
      this.#reader.places.map(({ name, dims }) => [name, new Tensor('float32', weights[name]!, dims)]),
    );
    this.#known[slot] = { weights, tensors };
    return tensors;
  }
}
