import { type Channel, channel } from 'node:diagnostics_channel';
import type { GradientBatch, Position, Rejection } from '../events.ts';

/** A batch went through a stage. */
export interface StageObserved {
  readonly kind: 'stage';
  readonly at: string;
  readonly batch: GradientBatch;
}

/** A batch came by a tap before the scan. */
export interface BatchObserved {
  readonly kind: 'batch';
  readonly at: string;
  readonly batch: GradientBatch;
  /** Where somebody has computed it. */
  readonly gradientNorm?: number | undefined;
}

/** A gradient norm that is far above those before it: their median, and what it was held to. */
export interface Outlier {
  readonly norm: number;
  readonly median: number;
  readonly limit: number;
}

/** What there is to say of a step. */
export interface StepFacts {
  /** The number of the weights that it produced. */
  readonly version: number;
  /** How many batches the scan has applied, this one included. */
  readonly step: number;
  /** How many epochs have ended. */
  readonly epoch: number;
  readonly lr: number;
  /** Global norm of the gradients as they reached the scan, before clipping: the producer's, where it tells it. */
  readonly gradientNorm: number;
  /** Whether clipping by global norm changed the gradients. */
  readonly clipped: boolean;
  /** Versions between the weights that the gradients were computed from and those that they were applied to. */
  readonly staleness: number | undefined;
  /** Set where the norm is far above those before it, and the scan warns of such. */
  readonly outlier?: Outlier | undefined;
  /** Where the batch stood in the log. */
  readonly position: Position | null;
  /** What it took: copy, norm and rule. */
  readonly durationMs: number;
}

/** A scan applied a batch. */
export interface StepObserved extends StepFacts {
  readonly kind: 'step';
  readonly at: string;
}

/** A scan applied a batch whose norm is far above those before it. */
export interface OutlierObserved extends Outlier {
  readonly kind: 'outlier';
  readonly at: string;
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
  /** The rate of the next step, where it is known. */
  readonly lr?: number;
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

/** A session took another way to keep its weights up to date, or its first. */
export interface StrategyObserved {
  readonly kind: 'strategy';
  readonly at: string;
  readonly taken: 'inputs' | 'rebuild';
  /** Why, in words and figures. */
  readonly reason: string;
}

/** A checkpoint was written. */
export interface CheckpointObserved {
  readonly kind: 'checkpoint';
  /** The store's name. */
  readonly at: string;
  readonly version: number;
  readonly bytes: number;
  /** Until it was copied and its checksum computed. */
  readonly sealedMs: number;
  /** Until it was durable. */
  readonly durationMs: number;
}

/** A checkpoint was loaded, and its stream goes on. */
export interface RecoveryObserved {
  readonly kind: 'recovery';
  /** The store's name. */
  readonly at: string;
  readonly version: number;
}

/** A gate came to a decision on some weights. */
export interface GateObserved {
  readonly kind: 'gate';
  /** The model's name. */
  readonly at: string;
  /**
   * `promoted`: the candidate is live. `rejected`: it is shown to be worse. `undecided`: it had all its examples. `confirmed`: the
   * live version is shown to be better than the fallback, which is let go. `rolledBack`: it is shown to be worse, and the fallback
   * is live.
   */
  readonly decision: 'promoted' | 'rejected' | 'undecided' | 'confirmed' | 'rolledBack';
  /** The version that was judged: the candidate, or the live one. */
  readonly version: number;
  /** The version that it was held against: the live one, or the fallback. */
  readonly against: number;
  /** The versions that are live and the fallback from now on. */
  readonly live: number;
  readonly fallback: number | null;
  /** Examples that both were scored on. */
  readonly examples: number;
  /** Their mean losses on these. */
  readonly loss: number;
  readonly againstLoss: number;
  /** The first less the second. */
  readonly difference: number;
  /** The differences that are not ruled out; what was once ruled out stays so. Either end is wrong with a chance of `errorRate` at most. */
  readonly low: number;
  readonly high: number;
  readonly margin: number;
  readonly errorRate: number;
  readonly test: string;
  /** The last event of the log that the judged version contains. */
  readonly position: Position | null;
  /** Labelled examples that were let go until now, because scoring was slower; and scorings that failed. */
  readonly missed: number;
  readonly failures: number;
}

/** How far a source has read a partition. About once a second; once more, without lag, when the partition moved to another member. */
export interface ProgressObserved {
  readonly kind: 'progress';
  readonly at: string;
  readonly topic: string;
  readonly partition: number;
  /** Everything before this offset was handed out. */
  readonly position: number;
  /** The offset that the next record will get. */
  readonly end: number;
  /** Offsets from position to end. */
  readonly lag: number;
  /** Events handed out and not acknowledged. */
  readonly inFlight: number;
  readonly inFlightBytes: number;
}

export type Observation =
  | StageObserved
  | BatchObserved
  | StepObserved
  | OutlierObserved
  | RejectionObserved
  | EpochObserved
  | SwapObserved
  | CheckpointObserved
  | RecoveryObserved
  | PredictionObserved
  | GateObserved
  | StrategyObserved
  | ProgressObserved;

/** Every channel of node:diagnostics_channel that rxgrad publishes on. A message is made only where somebody listens. */
export const channels = {
  stage: channel('rxgrad:stages:batch') as Channel<unknown, StageObserved>,
  step: channel('rxgrad:optimizers:step') as Channel<unknown, StepObserved>,
  outlier: channel('rxgrad:optimizers:outlier') as Channel<unknown, OutlierObserved>,
  rejection: channel('rxgrad:optimizers:rejection') as Channel<unknown, RejectionObserved>,
  epoch: channel('rxgrad:optimizers:epoch') as Channel<unknown, EpochObserved>,
  swap: channel('rxgrad:sinks:swap') as Channel<unknown, SwapObserved>,
  checkpoint: channel('rxgrad:sinks:checkpoint') as Channel<unknown, CheckpointObserved>,
  recovery: channel('rxgrad:checkpoints:recovery') as Channel<unknown, RecoveryObserved>,
  prediction: channel('rxgrad:inference:prediction') as Channel<unknown, PredictionObserved>,
  gate: channel('rxgrad:gates:decision') as Channel<unknown, GateObserved>,
  strategy: channel('rxgrad:inference:strategy') as Channel<unknown, StrategyObserved>,
  progress: channel('rxgrad:sources:progress') as Channel<unknown, ProgressObserved>,
};
