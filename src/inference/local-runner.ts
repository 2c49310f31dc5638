import type { InferenceSession } from 'onnxruntime-node';
import type { Slot } from '../params/left-right.ts';
import type { WeightsReader } from '../params/weights-reader.ts';
import { withReadableHalves } from './half-floats.ts';
import type { Feeds, Runner, RunResult } from './runner.ts';
import { WeightFeeds, type WeightRun } from './weight-feeds.ts';

/** Runs the model on this thread, over the weights where they lie. A run blocks the event loop while it computes. */
export class LocalRunner implements Runner {
  readonly capacity = 1;
  readonly failure = null;
  onCapacity = null;
  /** How many runs there are that have begun, or wait in onnxruntime's own queue. */
  running = 0;
  #whenIdle: (() => void) | null = null;
  readonly #session: InferenceSession;
  readonly #reader: WeightsReader;
  readonly #weights: WeightFeeds;

  /** The session and the reader are the runner's from now on, and are released with it. */
  constructor(session: InferenceSession, reader: WeightsReader) {
    this.#session = session;
    this.#reader = reader;
    this.#weights = new WeightFeeds(reader, session.inputNames);
  }

  async run(feeds: Feeds, slot: Slot | null): Promise<RunResult> {
    this.running++;
    let run: WeightRun | null = null;
    try {
      run = this.#weights.begin(withReadableHalves(feeds), slot);
      const running = this.#session.run(run.feeds);
      run.called();
      const outputs = await running;
      return { outputs, weights: run.facts, durationMs: performance.now() - run.startedAt };
    } finally {
      if (run) this.#weights.end(run);
      if (--this.running === 0) this.#whenIdle?.();
    }
  }

  async close(): Promise<void> {
    if (this.running > 0) {
      await new Promise<void>((resolve) => {
        this.#whenIdle = resolve;
      });
    }
    this.#reader.close();
    await this.#session.release();
  }
}
