import { type OperatorFunction, pipe } from 'rxjs';
import { RxgradError } from '../errors.ts';
import type { TrainingEvent } from '../events.ts';
import type { Parameters } from '../params/parameters.ts';
import { type AccumulateOptions, accumulate } from '../stages/accumulate.ts';
import { addDecayedWeights } from '../stages/add-decayed-weights.ts';
import { clipByGlobalNorm } from '../stages/clip-by-global-norm.ts';
import { clipByValue } from '../stages/clip-by-value.ts';
import { staleness } from '../stages/staleness.ts';
import { lookahead } from './lookahead.ts';
import type { Recipe, StageRecipe } from './recipe.ts';
import { ruleTypes } from './rule-types.ts';
import type { ScanOptions } from './scan-options.ts';
import type { WeightsUpdate } from './weights-update.ts';

type Scan = (params: Parameters, options: never) => OperatorFunction<TrainingEvent, WeightsUpdate>;
type Stage = (given: never) => OperatorFunction<TrainingEvent, TrainingEvent>;

const scans: Readonly<Record<string, Scan>> = {
  ...Object.fromEntries(Object.values(ruleTypes).map((scan) => [scan.definition.name, scan as Scan])),
  lookahead,
};
const stages: Readonly<Record<string, Stage>> = {
  accumulate: ({ size, ...options }: AccumulateOptions & { size: number }) => accumulate(size, options),
  clipByGlobalNorm,
  clipByValue,
  addDecayedWeights,
  staleness,
};

/** Sets up stages and scan again as a state says that they were. What it cannot say is an error: then the user has to. */
export function fromRecipe(
  params: Parameters,
  { optimizer, options }: Recipe,
  before: readonly StageRecipe[],
  own: Pick<ScanOptions, 'rejections' | 'threads'> = {},
): OperatorFunction<TrainingEvent, WeightsUpdate> {
  const scan = scans[optimizer];
  if (!scan) throw unsaid('an optimizer of this version', optimizer);
  const opaque = rates(options).find((lr) => typeof lr === 'object' && lr !== null && !('type' in lr));
  if (opaque)
    throw unsaid('a rate as plain data (a number, or a config)', `a schedule or function that begins at ${opaque.baseLr}`);
  const made = before.map(([name, given]) => {
    const stage = stages[name];
    if (!stage) throw unsaid('stages that it can tell in full', name);
    return stage(given as never);
  });
  const average = options.average === undefined ? {} : { average: { ...(options.average as object), into: params.twin() } };
  const chain = made.reduce((all, stage) => pipe(all, stage), pipe() as OperatorFunction<TrainingEvent, TrainingEvent>);
  return pipe(chain, scan(params, { ...options, ...average, ...own } as never));
}

/** Every rate in some options. */
function rates({ lr, groups, baseOptimizer }: Readonly<Record<string, unknown>>): (object & { baseLr?: number })[] {
  const ofGroups = ((groups ?? []) as { lr?: object }[]).map((group) => group.lr);
  const ofBase = (baseOptimizer as { lr?: object } | undefined)?.lr;
  return [lr as object, ...ofGroups, ofBase].filter((rate) => rate !== undefined);
}

function unsaid(expected: string, got: string): RxgradError {
  return new RxgradError('invalidOption', {
    option: 'the configuration in the checkpoint',
    expected,
    got: `${got}; give the scan yourself`,
  });
}
