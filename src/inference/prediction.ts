import type { LogPlace } from '../params/origins.ts';
import type { StrategyStatus } from './choosing/auto-runner.ts';
import type { Outputs } from './runner.ts';

export interface PredictOptions {
  /** A version that is kept in memory, or its label. Default: the live one. */
  readonly version?: number | string;
  /** Gives the prediction up: it is not run any more, or its result is dropped. */
  readonly signal?: AbortSignal;
  /** Milliseconds from now within which the prediction is of use. */
  readonly deadlineMs?: number;
}

/** How a session is doing. */
export interface SessionStatus {
  /** How weights are kept up to date, and why so; with `auto` the figures, too. */
  readonly strategy: StrategyStatus;
  /** The execution providers in use, most preferred first. */
  readonly providers: readonly string[];
  /** Threads that predict; 0 for the session's own. */
  readonly workers: number;
  /** Predictions that wait. */
  readonly queued: number;
  /** Whether predictions are put together into one run. */
  readonly batches: boolean;
}

/** What a model made of its inputs, and of the weights that it did so with. */
export interface Prediction {
  readonly outputs: Outputs;
  readonly version: number;
  /** Milliseconds since the weights were made. */
  readonly ageMs: number;
  /** The last event of the log that the weights contain; null where they come from none. */
  readonly position: LogPlace | null;
  /** Whether the weights are older than `maxStaleness` says. Those of a version that was asked for never are. */
  readonly stale: boolean;
}
