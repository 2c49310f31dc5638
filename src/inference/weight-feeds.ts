import { Tensor } from 'onnxruntime-node';
import type { Side } from '../params/left-right.ts';
import type { WeightsReader } from '../params/weights-reader.ts';

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
  readonly #sides: readonly [Feeds, Feeds];
  readonly #prototype: object;
  #looksTwice = false;

  constructor(reader: WeightsReader) {
    this.#reader = reader;
    this.#sides = [tensorsOf(reader, 0), tensorsOf(reader, 1)];
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

  begin(feeds: Feeds): WeightRun {
    return new WeightRun(this.#reader, this.#sides, this.#looksTwice, (run) => {
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
  readonly #sides: readonly [Feeds, Feeds];
  readonly #waitForLate: boolean;
  #called = false;
  #side: Side | undefined;

  constructor(reader: WeightsReader, sides: readonly [Feeds, Feeds], waitForLate: boolean, feedsOf: (run: WeightRun) => Feeds) {
    this.#reader = reader;
    this.#sides = sides;
    this.#waitForLate = waitForLate;
    this.feeds = feedsOf(this);
  }

  /** The version of the weights, once the computation has begun. */
  get version(): number {
    return this.#side === undefined ? this.#reader.liveVersion : this.#reader.version(this.#side);
  }

  /** The weights to be shown to whoever looks now. */
  weights(): Feeds {
    if (this.#called && !this.lookedUpLate) {
      this.lookedUpLate = true;
      this.startedAt = performance.now();
    }
    if (this.#side === undefined && (this.#called || !this.#waitForLate)) this.#side = this.#reader.acquire();
    return this.#sides[this.#side ?? 0];
  }

  /** To be told when the call has returned its promise. */
  called(): void {
    this.#called = true;
  }

  end(): void {
    if (this.#side !== undefined) this.#reader.release(this.#side);
  }
}

function tensorsOf(reader: WeightsReader, side: Side): Feeds {
  return Object.fromEntries(
    reader.places.map(({ name, dims }) => [name, new Tensor('float32', reader.sides[side][name]!, dims)]),
  );
}
