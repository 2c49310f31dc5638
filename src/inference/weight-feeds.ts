import { Tensor } from 'onnxruntime-node';
import type { Slot, SlotFacts } from '../params/left-right.ts';
import type { Weights, WeightsReader } from '../params/weights-reader.ts';
import type { Feeds } from './runner.ts';

/**
 * Puts the live weights beside a prediction's own inputs, and keeps them marked while they are read.
 *
 * onnxruntime-node looks feeds up twice, in the order of the session's inputs: when `run` is called, to check them, and in a
 * later turn of the event loop, just before it computes (blocking the thread). The first input is a property with a getter,
 * so that the choice of the version falls in the second look: however many swaps happen in between, a prediction takes the
 * newest version, and the scan never waits for predictions that merely queue. Neither the second look nor the order is
 * promised anywhere; so the first prediction marks its weights at the call and watches, as all do where it is otherwise.
 */
export class WeightFeeds {
  readonly #reader: WeightsReader;
  readonly #names: readonly string[];
  readonly #slots: { weights: Weights; tensors: Feeds }[] = [];
  // A new object to feed from costs more than all else here: they are used again.
  readonly #idle: WeightRun[] = [];
  readonly #lookAtFirst: object;
  #choosesLate = false;
  #watched = false;

  /** `names` are the inputs of onnxruntime's session, weights among them, in its order. */
  constructor(reader: WeightsReader, names: readonly string[]) {
    this.#reader = reader;
    this.#names = names;
    const get = function (this: Frame): Tensor | undefined {
      return this[RUN].first();
    };
    this.#lookAtFirst = Object.create(null, { [names[0]!]: { enumerable: true, get } });
  }

  /** Begins a run over the live weights, or over those of a slot that the caller holds. To be ended by the caller. */
  begin(feeds: Feeds, slot: Slot | null): WeightRun {
    const run = this.#idle.pop() ?? new WeightRun(this.#reader, this.#names, this.#tensorsOf, Object.create(this.#lookAtFirst));
    try {
      run.begin(feeds, slot, this.#choosesLate);
    } catch (error) {
      run.end();
      throw error;
    }
    if (!this.#watched) run.watch();
    return run;
  }

  end(run: WeightRun): void {
    run.end();
    // A run that failed early has not looked at all.
    if (!this.#watched && run.looked.length >= this.#names.length) {
      this.#watched = true;
      this.#choosesLate = this.#names.every((name, i) => run.looked[i] === name);
    }
    if (run.looked.length === 0) this.#idle.push(run);
  }

  readonly #tensorsOf = (slot: Slot): Feeds => {
    const weights = this.#reader.weights(slot);
    const known = this.#slots[slot];
    if (known?.weights === weights) return known.tensors;
    const entries = this.#reader.places.map(({ name, dims }) => [name, new Tensor('float32', weights[name]!, dims)] as const);
    const tensors = Object.fromEntries(entries);
    this.#slots[slot] = { weights, tensors };
    return tensors;
  };
}

const RUN = Symbol('run');

interface Frame {
  [RUN]: WeightRun;
  [name: string]: Tensor | undefined;
}

/** One run's hold on the weights. */
export class WeightRun {
  /** Inputs and weights by name, for `InferenceSession.run`. */
  feeds: Feeds;
  /** When the computation began (in `performance.now()` terms), as far as it shows. */
  startedAt = 0;
  /** Names in the order in which they were looked up after the call, where that is watched. */
  readonly looked: string[] = [];
  readonly #reader: WeightsReader;
  readonly #names: readonly string[];
  readonly #inputs: readonly string[];
  readonly #weights: readonly string[];
  readonly #tensorsOf: (slot: Slot) => Feeds;
  readonly #frame: Frame;
  #first: Tensor | undefined;
  #shown: Feeds | null = null;
  #slot: Slot | null = null;
  #marked = false;
  #called = false;

  constructor(reader: WeightsReader, names: readonly string[], tensorsOf: (slot: Slot) => Feeds, frame: Frame) {
    const weights = new Set(reader.places.map(({ name }) => name));
    const [, ...later] = names;
    this.#reader = reader;
    this.#names = names;
    this.#inputs = later.filter((name) => !weights.has(name));
    this.#weights = later.filter((name) => weights.has(name));
    this.#tensorsOf = tensorsOf;
    this.#frame = frame;
    frame[RUN] = this;
    this.feeds = frame as unknown as Feeds;
    for (const name of this.#inputs) frame[name] = undefined;
    this.#show(0);
  }

  /** What is known of the weights that the computation uses. */
  get facts(): SlotFacts {
    return this.#reader.facts(this.#slot ?? this.#reader.live);
  }

  begin(feeds: Feeds, slot: Slot | null, choosesLate: boolean): void {
    if (!choosesLate) this.startedAt = performance.now();
    this.#first = feeds[this.#names[0]!];
    for (const name of this.#inputs) this.#frame[name] = feeds[name];
    this.#called = false;
    this.#slot = slot;
    if (slot !== null) this.#show(slot);
    else if (!choosesLate) this.#choose();
  }

  /** To be told when the call has returned its promise. */
  called(): void {
    this.#called = true;
  }

  /** What the first input is, for whoever looks. */
  first(): Tensor | undefined {
    if (this.#called) {
      this.startedAt = performance.now();
      if (this.#slot === null) this.#choose();
    }
    return this.#first ?? this.#shown![this.#names[0]!];
  }

  /** Notes from now on who looks at what. */
  watch(): void {
    const frame = this.#frame;
    const entries = this.#names.map((name) => {
      const get = () => {
        if (this.#called) this.looked.push(name);
        return frame[name];
      };
      return [name, { enumerable: true, get }] as const;
    });
    this.feeds = Object.create(null, Object.fromEntries(entries));
  }

  end(): void {
    if (this.#marked) this.#reader.release(this.#slot!);
    this.#marked = false;
    // What a caller fed is not to be kept alive here.
    this.#first = undefined;
    for (const name of this.#inputs) this.#frame[name] = undefined;
  }

  #choose(): void {
    this.#slot = this.#reader.acquire();
    this.#marked = true;
    this.#show(this.#slot);
  }

  #show(slot: Slot): void {
    const tensors = this.#tensorsOf(slot);
    if (tensors === this.#shown) return;
    this.#shown = tensors;
    for (const name of this.#weights) this.#frame[name] = tensors[name];
  }
}
