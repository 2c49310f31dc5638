import type { Tensor } from 'onnxruntime-node';
import type { RxgradError } from '../errors.ts';
import type { Slot, SlotFacts } from '../params/left-right.ts';

/** Tensors by input name. */
export type Feeds = Readonly<Record<string, Tensor>>;
/** Tensors by output name. */
export type Outputs = Readonly<Record<string, Tensor>>;

export interface RunResult {
  readonly outputs: Outputs;
  /** Of the weights that it used. See {@link Origins.factsOf}. */
  readonly weights: SlotFacts;
  /** What the run alone took, without the wait for it. */
  readonly durationMs: number;
}

/** Runs a model over weights that change: on this thread or another, one run after the other. */
export interface Runner {
  /** How many runs it takes at once: the one under way, and those that keep it from idling. 0 while it can take none. */
  readonly capacity: number;
  /** To be called when {@link capacity} is another than before. */
  onCapacity: (() => void) | null;
  /** Set where it takes any number of runs now, in a queue of its own: how many it has. */
  readonly running?: number | null;
  /** Why it can take none, where it is not known when it will again. */
  readonly failure: RxgradError | null;
  /**
   * Runs the model once. `slot` is where the weights lie, held by the caller meanwhile; null stands for the live ones when
   * the run begins. Fails with what onnxruntime says, or with an error of rxgrad where it could not run at all.
   */
  run(feeds: Feeds, slot: Slot | null): Promise<RunResult>;
  /** Lets what is under way end, and gives back what it holds. */
  close(): Promise<void>;
}
