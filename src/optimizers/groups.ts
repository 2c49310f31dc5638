import * as v from 'valibot';
import { RxgradError } from '../errors.ts';
import type { Parameters } from '../params/parameters.ts';
import { type LearningRate, scheduleOf } from '../schedules/from-config.ts';
import type { Schedule } from '../schedules/schedule.ts';
import { matcher } from '../setting.ts';

/** Parameters that are stepped otherwise than the rest. A parameter is in one group at most. */
export interface ParameterGroup {
  /** Names or patterns (`*` stands for any characters). Each must match a parameter. */
  readonly params: string | readonly string[];
  /** Their own rate. Default: that of all. */
  readonly lr?: LearningRate;
  /** Whether they and their state stay as they are. Their gradients count in the global norm all the same. */
  readonly frozen?: boolean;
}

export const groupEntries = {
  params: v.union([v.string(), v.pipe(v.array(v.string()), v.minLength(1, 'at least one name or pattern'))]),
  lr: v.optional(v.custom<LearningRate>(() => true)),
  frozen: v.optional(v.boolean(), false),
};

export const groupsSchema = v.optional(v.array(v.strictObject(groupEntries)), []);

type ParsedGroup = v.InferOutput<typeof groupsSchema>[number];

/** The groups of some parameters: each parameter's schedule, by its place, and whether it is frozen. */
export class Groups {
  /** The schedule of all first, then one for each group that has its own. */
  readonly schedules: readonly Schedule[];
  readonly #scheduleOf: readonly number[];
  readonly #frozen: readonly boolean[];

  constructor(params: Parameters, lr: LearningRate, groups: readonly ParsedGroup[]) {
    const schedules = [scheduleOf(lr)];
    const members = membersOf(params, groups);
    const indices = groups.map((group) => (group.lr === undefined ? 0 : schedules.push(scheduleOf(group.lr)) - 1));
    this.schedules = schedules;
    this.#scheduleOf = members.map((group) => (group === -1 ? 0 : indices[group]!));
    this.#frozen = members.map((group) => group !== -1 && groups[group]!.frozen);
  }

  /** For each parameter the number of its schedule, or −1 where it is frozen. */
  get indices(): number[] {
    return this.#scheduleOf.map((schedule, parameter) => (this.#frozen[parameter] ? -1 : schedule));
  }

  scheduleIndex(parameter: number): number {
    return this.#scheduleOf[parameter]!;
  }

  isFrozen(parameter: number): boolean {
    return this.#frozen[parameter]!;
  }
}

/** For each parameter, the group that it is in, or −1. */
function membersOf(params: Parameters, groups: readonly ParsedGroup[]): number[] {
  const members = params.names.map(() => -1);
  for (const [index, group] of groups.entries()) {
    for (const pattern of typeof group.params === 'string' ? [group.params] : group.params) {
      const option = `groups.${index}.params`;
      const matched = matching(params, pattern, option);
      for (const place of matched) {
        if (members[place] !== -1 && members[place] !== index) {
          const expected = `each parameter in one group ("${params.names[place]}" is in group ${members[place]} already)`;
          throw new RxgradError('invalidOption', { option, expected, got: `"${pattern}"` });
        }
        members[place] = index;
      }
    }
  }
  return members;
}

/** The places of the parameters that a pattern matches; fails where there is none, in no shard either. */
export function matching({ names, shardOf }: Parameters, pattern: string, option: string): number[] {
  const matches = matcher(pattern);
  const places = names.flatMap((name, place) => (matches(name) ? [place] : []));
  if (places.length > 0 || shardOf?.some(matches)) return places;
  throw new RxgradError('invalidOption', {
    option,
    expected: `a name or pattern that matches a parameter (${(shardOf ?? names).join(', ')})`,
    got: `"${pattern}"`,
  });
}
