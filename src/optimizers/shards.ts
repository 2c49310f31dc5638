import { RxgradError } from '../errors.ts';
import { type GradientBatch, knowsNorm } from '../events.ts';
import { expectOption } from '../options.ts';
import type { Parameters } from '../params/parameters.ts';
import { wholeName } from '../part-name.ts';
import type { Refusal } from './plan.ts';
import type { Prologue } from './prologue.ts';
import { goesByElement, type Rule } from './rule.ts';

/** Fails where a rule needs the whole of a parameter of which a shard has some rows. */
export function assertWhole({ names, shardOf }: Parameters, rule: Rule): void {
  if (!shardOf || goesByElement(rule)) return;
  const cut = names.find((name) => wholeName(name) !== name);
  const expected = 'whole parameters, since it does not go element by element (shardPlan with cut: false)';
  expectOption(cut === undefined, rule.name, expected, `some rows of one, "${cut}"`);
}

/**
 * Why a batch that says too little of the whole model's gradients must not be stepped, or null. Each shard refuses the same
 * batches. Fails where stages ask for a norm that no shard can know.
 */
export function refuseShare({ shardOf }: Parameters, { clips }: Prologue, { message }: GradientBatch): Refusal | null {
  const { layout, facts } = message;
  if (!knowsNorm(facts)) {
    if (layout.tensors.length === 0) return (where) => new RxgradError('emptyBatch', { where });
    return shardOf ? (where) => new RxgradError('wrongNorm', { where, expected: 'a number', got: 'none' }) : null;
  }
  if (!shardOf) return null;
  const expected = 'it in front of all that changes or merges gradients, where parameters are a shard';
  expectOption(clips !== 'later', 'clipByGlobalNorm', expected, 'it behind what changes them');
  expectOption(clips === 'not' || facts.norm !== undefined, 'clipByGlobalNorm', expected, 'it behind accumulate');
  return null;
}
