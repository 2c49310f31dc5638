import { type Channel, channel } from 'node:diagnostics_channel';
import type { GradientBatch, Position, Rejection } from '../events.ts';

/** A batch went through a stage. */
export interface BatchObserved {
  readonly kind: 'batch';
  readonly at: string;
  readonly batch: GradientBatch;
}

/** A scan applied a batch. */
export interface StepObserved {
  readonly kind: 'step';
  readonly at: string;
  readonly version: number;
  readonly epoch: number;
  readonly lr: number;
  readonly gradientNorm: number;
  readonly clipped: boolean;
  readonly staleness: number | undefined;
  readonly durationMs: number;
  readonly position: Position | null;
}

/** A scan left an event out. */
export interface RejectionObserved {
  readonly kind: 'rejection';
  readonly at: string;
  readonly rejection: Rejection;
}

/** A schedule ticked. */
export interface EpochObserved {
  readonly kind: 'epoch';
  readonly at: string;
  readonly epoch: number;
  readonly lr: number;
}

/** A session changed to other weights. */
export interface SwapObserved {
  readonly kind: 'swap';
  readonly at: string;
  readonly version: number;
  readonly durationMs: number;
}

/** A session predicted. `durationMs` is the run alone, without the wait for it. */
export interface PredictionObserved {
  readonly kind: 'prediction';
  readonly at: string;
  readonly version: number;
  readonly durationMs: number;
}

export type Observation = BatchObserved | StepObserved | RejectionObserved | EpochObserved | SwapObserved | PredictionObserved;

/** Every channel of node:diagnostics_channel that rxgrad publishes on. A message is made only where somebody listens. */
export const channels = {
  stage: channel('rxgrad:stages:batch') as Channel<unknown, BatchObserved>,
  step: channel('rxgrad:optimizers:step') as Channel<unknown, StepObserved>,
  rejection: channel('rxgrad:optimizers:rejection') as Channel<unknown, RejectionObserved>,
  epoch: channel('rxgrad:optimizers:epoch') as Channel<unknown, EpochObserved>,
  swap: channel('rxgrad:sinks:swap') as Channel<unknown, SwapObserved>,
  prediction: channel('rxgrad:inference:prediction') as Channel<unknown, PredictionObserved>,
};
