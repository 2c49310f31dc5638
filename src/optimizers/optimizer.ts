import { type OperatorFunction, pipe } from 'rxjs';
import type { TrainingEvent } from '../events.ts';
import type { Parameters } from '../params/parameters.ts';
import { type ConfigBase, readConfig } from './config.ts';
import { type LookaheadOptions, lookahead } from './lookahead.ts';
import { type RuleConfig, ruleTypes } from './rule-types.ts';
import type { ScanOptions } from './scan-options.ts';
import type { WeightsUpdate } from './weights-update.ts';

type Scan = (params: Parameters, options: never) => OperatorFunction<TrainingEvent, WeightsUpdate>;

const types: Readonly<Record<string, Scan & { readonly ownDecay: number | undefined }>> = {
  ...ruleTypes,
  Lookahead: Object.assign(lookahead as Scan, { ownDecay: undefined }),
};

/** An optimizer as plain data: braintools' names in camel case. What a type does not take is refused. */
export type OptimizerConfig =
  | RuleConfig
  | ({ readonly type: 'Lookahead' } & Pick<LookaheadOptions, 'baseOptimizer' | 'syncPeriod' | 'alpha'> & ConfigBase);

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
  const { optimizer: scan, stages, options: own } = readConfig(types, params, config, 'optimizer');
  return pipe(stages, scan(params, { ...own, ...options } as never));
}
