import { type OperatorFunction, pipe } from 'rxjs';
import * as v from 'valibot';
import type { TrainingEvent } from '../events.ts';
import { nonNegative, parseOptions, positive } from '../options.ts';
import type { Parameters } from '../params/parameters.ts';
import { parseSetting, type Setting } from '../setting.ts';
import { addDecayedWeights } from '../stages/add-decayed-weights.ts';
import { clipByGlobalNorm } from '../stages/clip-by-global-norm.ts';
import { clipByValue } from '../stages/clip-by-value.ts';
import { groupEntries, matching, type ParameterGroup } from './groups.ts';
import type { ScanOptions } from './scan-options.ts';

/** Parameters that are treated otherwise than the rest, in a config. */
export interface ConfigGroup extends ParameterGroup {
  /** Their own decay. Default: that of all. */
  readonly weightDecay?: number;
  /** Their own limit, against the one norm of all gradients. Default: that of all. */
  readonly gradClipNorm?: number;
  /** Their own limit of each element. Default: that of all. */
  readonly gradClipValue?: number;
}

/** What every config may say beside its type's own options. */
export interface ConfigBase extends Pick<ScanOptions, 'tickOn' | 'outliers'> {
  /** Decay: coupled (added to the gradient before the rule), but where the type has its own. Default: the type's own, or 0. */
  readonly weightDecay?: Setting;
  /** Limit of the global norm. Default: none. */
  readonly gradClipNorm?: Setting | null;
  /** Limit of each element. Default: none. */
  readonly gradClipValue?: Setting | null;
  /** Parameters with a rate, decay or clip of their own, or frozen. */
  readonly groups?: readonly ConfigGroup[];
}

const stageOptions = { weightDecay: nonNegative, gradClipNorm: positive, gradClipValue: positive };
type StageOption = keyof typeof stageOptions;

const setting = v.custom<Setting>(() => true);
const groupSchema = v.strictObject({ ...groupEntries, ...v.partial(v.object(stageOptions)).entries });
const configSchema = v.looseObject({
  weightDecay: v.optional(setting),
  gradClipNorm: v.nullish(setting),
  gradClipValue: v.nullish(setting),
  groups: v.optional(v.array(groupSchema), []),
});

type Config = v.InferOutput<typeof configSchema>;
type Stage = OperatorFunction<TrainingEvent, TrainingEvent>;

/**
 * Takes a config apart: its type's optimizer, the stages in front of it (clip by global norm → clip by value → add decayed
 * weights), and the options that are left for the optimizer.
 */
export function readConfig<T extends { readonly ownDecay: number | undefined }>(
  types: Readonly<Record<string, T>>,
  params: Parameters,
  config: unknown,
  where: string,
): { optimizer: T; stages: Stage; options: { readonly groups: readonly object[] } } {
  const { type } = parseOptions(v.looseObject({ type: v.picklist(Object.keys(types)) }), config, where);
  const optimizer = types[type]!;
  const { type: _, ...parsed } = parseOptions(configSchema, config, where);
  const { weightDecay, gradClipNorm, gradClipValue, groups, ...options } = parsed;
  const setting = (option: StageOption, otherwise: Setting | null): Setting | null =>
    settingOf(params, parsed, option, otherwise, `${where}: ${option}`);

  const decay = setting('weightDecay', optimizer.ownDecay ?? 0)!;
  const decaysItself = optimizer.ownDecay !== undefined;
  const stages = pipe(
    stageOf(clipByGlobalNorm, setting('gradClipNorm', null)),
    stageOf(clipByValue, setting('gradClipValue', null)),
    stageOf(addDecayedWeights, decaysItself || decay === 0 ? null : decay),
  );
  const scanGroups = groups.map(({ weightDecay, gradClipNorm, gradClipValue, ...group }) => group);
  return { optimizer, stages, options: { ...options, groups: scanGroups, ...(decaysItself ? { weightDecay: decay } : {}) } };
}

/** An option of all, and what groups say of their own, as one setting. */
function settingOf(
  params: Parameters,
  config: Config,
  option: StageOption,
  otherwise: Setting | null,
  where: string,
): Setting | null {
  const own = config[option] ?? otherwise;
  if (own !== null)
    for (const pattern of parseSetting(stageOptions[option], own, where, 0).patterns) matching(params, pattern, where);
  const ofGroups = config.groups.flatMap((group) => {
    const value = group[option];
    return value === undefined ? [] : [group.params].flat().map((pattern) => [pattern, value] as const);
  });
  if (ofGroups.length === 0) return own;
  const rest = own !== null && typeof own === 'object' ? own : own === null ? {} : { '*': own };
  // A group's number counts before one that is for all.
  const patterns = new Set(ofGroups.map(([pattern]) => pattern));
  return Object.fromEntries([...ofGroups, ...Object.entries(rest).filter(([pattern]) => !patterns.has(pattern))]);
}

function stageOf(stage: (setting: Setting) => Stage, setting: Setting | null): Stage {
  return setting === null ? pipe() : stage(setting);
}
