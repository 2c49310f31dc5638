import { type OperatorFunction, pipe } from 'rxjs';
import * as v from 'valibot';
import type { TrainingEvent } from '../events.ts';
import { nonNegative, parseOptions, positive } from '../options.ts';
import type { Parameters } from '../params/parameters.ts';
import type { LearningRate } from '../schedules/from-config.ts';
import { addDecayedWeights } from '../stages/add-decayed-weights.ts';
import { clipByGlobalNorm } from '../stages/clip-by-global-norm.ts';
import { clipByValue } from '../stages/clip-by-value.ts';
import { adam } from './adam.ts';
import { momentum } from './momentum.ts';
import { momentumNesterov } from './momentum-nesterov.ts';
import type { ScanOptions } from './scan.ts';
import { sgd } from './sgd.ts';
import type { WeightsUpdate } from './weights-update.ts';

const types = { SGD: sgd, Momentum: momentum, MomentumNesterov: momentumNesterov, Adam: adam } as const;

const nothing: OperatorFunction<TrainingEvent, TrainingEvent> = pipe();

/** An optimizer as plain data: braintools' names in camel case. What a type does not take is refused. */
export interface OptimizerConfig {
  readonly type: keyof typeof types;
  /** Default 1e-3. */
  readonly lr?: LearningRate;
  readonly momentum?: number;
  readonly nesterov?: boolean;
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  readonly amsgrad?: boolean;
  /** Coupled L2 decay, before momentum. Default 0. */
  readonly weightDecay?: number;
  /** Limit of the global norm. Default: none. */
  readonly gradClipNorm?: number;
  /** Limit of each element. Default: none. */
  readonly gradClipValue?: number;
}

const commonSchema = v.looseObject({
  type: v.picklist(Object.keys(types)),
  weightDecay: v.optional(nonNegative, 0),
  gradClipNorm: v.nullish(positive),
  gradClipValue: v.nullish(positive),
});

/**
 * Builds the chain of stages and the scan from plain data: clip by global norm → clip by value → add decayed weights →
 * rule. The same bits as the chain written out.
 *
 * @example
 * gradients$.pipe(optimizer(params, { type: 'Momentum', lr: 0.1, momentum: 0.9, gradClipNorm: 1 }))
 */
export function optimizer(
  params: Parameters,
  config: OptimizerConfig,
  options: Omit<ScanOptions, 'lr'> = {},
): OperatorFunction<TrainingEvent, WeightsUpdate> {
  const { type, weightDecay, gradClipNorm, gradClipValue, ...rest } = parseOptions(commonSchema, config, 'optimizer');
  const scan = types[type as keyof typeof types];
  return pipe(
    gradClipNorm == null ? nothing : clipByGlobalNorm(gradClipNorm),
    gradClipValue == null ? nothing : clipByValue(gradClipValue),
    weightDecay === 0 ? nothing : addDecayedWeights(weightDecay),
    scan(params, { ...rest, ...options }),
  );
}
