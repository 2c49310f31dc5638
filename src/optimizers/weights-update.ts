import type { Position } from '../events.ts';
import type { Parameters } from '../params/parameters.ts';
import type { Weights } from '../params/weights-reader.ts';

export interface StepFacts {
  readonly version: number;
  readonly step: number;
  readonly epoch: number;
  readonly lr: number;
  readonly gradientNorm: number;
  readonly clipped: boolean;
  readonly staleness: number | undefined;
  readonly position: Position | null;
  readonly durationMs: number;
}

/** What a scan emits for each batch that it applied. */
export class WeightsUpdate implements StepFacts {
  readonly kind = 'update';
  readonly params: Parameters;
  /** The number of the weights that this step produced. */
  readonly version: number;
  /** How many batches this scan has applied. */
  readonly step: number;
  /** How many epochs have ended. */
  readonly epoch: number;
  readonly lr: number;
  /** Global norm of the gradients as they reached the scan, before clipping. */
  readonly gradientNorm: number;
  /** Whether clipping by global norm changed the gradients. */
  readonly clipped: boolean;
  /** Versions between the weights that the gradients were computed from and those that they were applied to. */
  readonly staleness: number | undefined;
  /** Where the batch stood in the log. */
  readonly position: Position | null;
  /** What the step took: copy, norm and rule. */
  readonly durationMs: number;
  /** What the swap took, once a sink has done it. */
  swapMs: number | undefined = undefined;

  constructor(params: Parameters, facts: StepFacts) {
    this.params = params;
    this.version = facts.version;
    this.step = facts.step;
    this.epoch = facts.epoch;
    this.lr = facts.lr;
    this.gradientNorm = facts.gradientNorm;
    this.clipped = facts.clipped;
    this.staleness = facts.staleness;
    this.position = facts.position;
    this.durationMs = facts.durationMs;
  }

  /** The weights by name: views, lent until the next step. Copy what is to be kept. */
  get weights(): Weights {
    return this.params.latest;
  }
}
