import type { Position } from '../events.ts';
import type { StepFacts } from '../observe/channels.ts';
import type { KeptVersion } from '../params/kept-versions.ts';
import type { Parameters } from '../params/parameters.ts';
import type { Weights } from '../params/weights-reader.ts';

/** What a scan emits for each batch that it applied. */
export class WeightsUpdate implements StepFacts {
  readonly kind = 'update';
  readonly params: Parameters;
  /** The average that serves in their place, where there is one. */
  readonly average: Parameters | null;
  readonly facts: StepFacts;
  /** The kept version that is to go live instead of the newest weights, once a gate has chosen one. */
  kept: KeptVersion | null = null;
  /** What the swap took, once a sink has done it. */
  swapMs: number | undefined = undefined;

  constructor(params: Parameters, average: Parameters | null, facts: StepFacts) {
    this.params = params;
    this.average = average;
    this.facts = facts;
  }

  get version(): number {
    return this.facts.version;
  }

  get step(): number {
    return this.facts.step;
  }

  get epoch(): number {
    return this.facts.epoch;
  }

  get lr(): number {
    return this.facts.lr;
  }

  get gradientNorm(): number {
    return this.facts.gradientNorm;
  }

  get clipped(): boolean {
    return this.facts.clipped;
  }

  get staleness(): number | undefined {
    return this.facts.staleness;
  }

  get position(): Position | null {
    return this.facts.position;
  }

  get durationMs(): number {
    return this.facts.durationMs;
  }

  /** The weights by name: views, lent until the next step. Copy what is to be kept. */
  get weights(): Weights {
    return this.params.latest;
  }
}
