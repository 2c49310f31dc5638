import * as v from 'valibot';
import { type RejectionReason, RxgradError } from './errors.ts';
import { count, fraction, parseOptions, positive } from './options.ts';

const policySchema = v.variant('type', [
  v.strictObject({ type: v.literal('drop'), above: v.pipe(v.number(), v.safeInteger('a whole number'), v.minValue(0)) }),
  v.strictObject({ type: v.literal('scale') }),
  v.strictObject({
    type: v.literal('compensate'),
    lambda: v.optional(positive),
    adaptive: v.optional(v.boolean(), false),
    decay: v.optional(fraction, 0.95),
    versions: v.optional(v.pipe(count, v.maxValue(4096)), 16),
  }),
]);

/**
 * What becomes of a gradient that was computed from weights τ versions before those that it meets.
 *
 * - `drop`: where τ > `above`, it is rejected.
 * - `scale`: g ← g / (1 + τ).
 * - `compensate`: g ← g + λ g ⊙ g ⊙ (θ − θ′), with the weights θ′ that it was computed from; `adaptive` divides λ by the root
 *   of a moving mean of squares, m ← decay · m + (1 − decay) g², λ / √(m + 10⁻⁷). The weights of the last `versions` steps are
 *   kept for it; what is older is rejected. Defaults: lambda 0.04, or 2 where adaptive; adaptive false, decay 0.95, versions 16.
 */
export type StalenessPolicy = v.InferInput<typeof policySchema>;

export type Compensate = Extract<v.InferOutput<typeof policySchema>, { type: 'compensate' }> & { readonly lambda: number };

/** A policy with its defaults. */
export type ParsedPolicy = Exclude<v.InferOutput<typeof policySchema>, { type: 'compensate' }> | Compensate;

/** Checks a policy and fills in its defaults. */
export function parsePolicy(policy: StalenessPolicy, where: string): ParsedPolicy {
  const parsed = parseOptions(policySchema, policy, where);
  if (parsed.type !== 'compensate') return parsed;
  return { ...parsed, lambda: parsed.lambda ?? (parsed.adaptive ? 2 : 0.04) };
}

/** 1 / (1 + τ), in float32. */
export function stalenessFactor(staleness: number): number {
  return Math.fround(1 / (1 + staleness));
}

/** The version that gradients were computed from: of merged ones the oldest, and that of each part. */
interface Based {
  readonly base?: number | undefined;
  readonly members?: readonly Based[] | undefined;
}

/**
 * Why gradients of the weights `base` must not meet those of `version`, or null. `oldest` is the first version whose weights are
 * known. A batch that does not say its base counts as fresh; one of weights that are still to come never fits.
 */
export function refuseStale(
  policies: readonly ParsedPolicy[],
  { base, members }: Based,
  version: number,
  oldest: number,
  where: () => string,
): RxgradError<RejectionReason> | null {
  if (base === undefined) return null;
  const newest = (members ?? []).reduce((most, member) => Math.max(most, member.base ?? 0), base);
  if (newest > version) return new RxgradError('fromTheFuture', { where: where(), expected: version, got: newest });
  if (policies.length === 0) return null;
  const first = policies.reduce((most, policy) => Math.max(most, firstOf(policy, version, oldest)), Number.NEGATIVE_INFINITY);
  return base < first ? new RxgradError('stale', { where: where(), expected: first, version, got: base }) : null;
}

function firstOf(policy: ParsedPolicy, version: number, oldest: number): number {
  if (policy.type === 'drop') return version - policy.above;
  return policy.type === 'scale' ? 0 : oldest;
}
