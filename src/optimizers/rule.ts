import type { Kernel } from '../kernels/kernel.ts';

/** A buffer that a rule keeps for each parameter. */
export interface StateSpec {
  /** Its name in the rule's kernels. */
  readonly name: string;
  /** Its name in a checkpoint, torch's where torch has it; default: the name. */
  readonly key?: string;
  /** Its dims for a parameter with these; default: the same. */
  readonly dims?: (dims: readonly number[]) => readonly number[];
  /** What every element is at first (may follow from the rate at the start and, in the weights' shape, from the weight); default 0. */
  readonly initial?: number | ((lr: number, weight: number) => number);
  /** Whether it means nothing between two steps, so that no checkpoint needs it. */
  readonly scratch?: boolean;
}

/** What one parameter's step is made with. Lent for one call. */
export interface StepFacts {
  readonly lr: number;
  /** How often this parameter was stepped, this time included. */
  readonly count: number;
  /** Decay that the rule applies by itself, behind its own scaling (decoupled). */
  readonly weightDecay: number;
  readonly dims: readonly number[];
  readonly length: number;
  /** What the last pass that has sums added up, block by block in order. */
  readonly sums: readonly number[];
  /** The rule's buffers for this parameter. */
  readonly state: Readonly<Record<string, Float32Array>>;
}

/** One kernel of a step. */
export interface Pass {
  readonly kernel: Kernel;
  /** The kernel's scalars, in float64; they are rounded to float32. Called once a step. */
  scalars(step: StepFacts): Readonly<Record<string, number>>;
  /** Whether this step needs the pass; default: each does. */
  when?(step: StepFacts): boolean;
}

/**
 * An optimizer's arithmetic: (weights, state, gradient) → (weights, state), for one parameter at a time, as passes over it
 * one after the other. Stateless itself: buffers and counts are the scan's.
 */
export interface Rule {
  readonly name: string;
  readonly state: readonly StateSpec[];
  readonly passes: readonly Pass[];
}

/** Whether each element is stepped by itself, so that a part of a parameter is stepped as in the whole of it. */
export function goesByElement({ passes }: Rule): boolean {
  return passes.every(({ kernel }) => kernel.byElement && kernel.sumCount === 0);
}

/**
 * Whether a row of a table can be stepped by itself: one pass, element by element, with state in the weights' shape. What
 * cannot gets a sparse gradient as a dense one with zeros.
 */
export function stepsRows(rule: Rule): boolean {
  return rule.passes.length === 1 && goesByElement(rule) && rule.state.every(({ dims }) => !dims);
}
