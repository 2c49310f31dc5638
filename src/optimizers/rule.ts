import type { Kernels } from '../kernels/kernels.ts';

/** Where one parameter's numbers lie: addresses of `length` float32 elements each. The object is lent for one call. */
export interface StepAddresses {
  w: number;
  out: number;
  g: number;
  length: number;
  /** One address for each name in {@link Rule.state}. */
  state: number[];
}

/** What comes before the rule: clip(g · scale, ±limit) + decay · θ. */
export interface FusedPrologue {
  scale: number;
  limit: number;
  decay: number;
}

/**
 * An optimizer's arithmetic: (weights, state, gradient) → (weights, state), for one parameter at a time. Stateless itself:
 * buffers and counts are the scan's.
 */
export interface Rule {
  readonly name: string;
  /** Names of the buffers that the rule keeps, each shaped as the weights and zero at first. */
  readonly state: readonly string[];
  /** Does one step. `count` tells how often this parameter was stepped, this time included. */
  apply(kernels: Kernels, at: StepAddresses, prologue: FusedPrologue, lr: number, count: number): void;
}
