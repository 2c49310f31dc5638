import type { Observer } from 'rxjs';
import type { Position } from '../events.ts';
import type { StepFacts } from '../observe/channels.ts';
import type { Parameters } from '../params/parameters.ts';
import type { Weights } from '../params/weights-reader.ts';

/** What a scan emits for each batch that it applied. */
export class WeightsUpdate implements StepFacts {
  readonly kind = 'update';
  readonly params: Parameters;
  /** The average that serves in their place, where there is one. */
  readonly average: Parameters | null;
  readonly facts: StepFacts;
  /** What the swap took, once a sink has done it. */
  swapMs: number | undefined = undefined;

  /** What is waited for, while it is being emitted. */
  #holds: Promise<unknown>[] | null = null;

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

  /**
   * Asks for no further step, and no acknowledgement, until a promise settles; so a sink slows the stream down. Works while the
   * update is being emitted; tells whether it does.
   */
  hold(until: Promise<unknown>): boolean {
    this.#holds?.push(until);
    return this.#holds !== null;
  }

  /** Hands it to an observer. Returns what it was asked to wait for, or null. */
  emitTo(out: Pick<Observer<WeightsUpdate>, 'next'>): Promise<unknown> | null {
    const holds: Promise<unknown>[] = [];
    this.#holds = holds;
    out.next(this);
    this.#holds = null;
    return holds.length > 0 ? Promise.allSettled(holds) : null;
  }

  /** The weights by name: views, lent until the next step. Copy what is to be kept. */
  get weights(): Weights {
    return this.params.latest;
  }
}
