import { expectOption } from '../options.ts';
import { checkedState, type Schedule, type ScheduleState } from './schedule.ts';

/** How parts become one schedule. Pure: the ticks and the parts are all that it may look at. */
export interface Combination {
  /** Its type and options as a config has them, its parts aside. */
  readonly config: { readonly type: string; readonly [option: string]: unknown };
  lr(parts: readonly Schedule[], ticks: number): number;
  /** Ends an epoch of the parts that take part in it; `ticks` counts it already. */
  tick(parts: readonly Schedule[], ticks: number, metric?: number): void;
}

/**
 * Makes one schedule of at least one part, which it owns. Its state is its ticks beside the numbers of its parts, named by
 * their place: `0/ticks`, `1/ticks`, and `1/0/ticks` in a combination of combinations.
 */
export function combinedSchedule(parts: readonly Schedule[], combination: Combination): Schedule {
  const looksAt = parts.flatMap((part) => (part.metric === undefined ? [] : [part.metric]));
  const [metric = looksAt.length > 0 ? null : undefined, ...others] = new Set(looksAt.filter((name) => name !== null));
  // A tick brings one number.
  expectOption(others.length === 0, 'schedulers: metric', `"${metric}" for all`, `"${others[0]}"`);
  const { baseLr } = parts[0]!;
  let ticks = 0;

  const state = (): ScheduleState => ({ ticks, ...statesOf(parts) });
  const schedulers = parts.flatMap(({ config }) => config ?? []);
  return {
    ...(schedulers.length < parts.length ? {} : { config: { ...combination.config, schedulers } }),
    baseLr,
    ...(metric !== undefined && { metric }),
    get lr() {
      return combination.lr(parts, ticks);
    },
    tick(value) {
      ticks += 1;
      combination.tick(parts, ticks, value);
    },
    state,
    restore(given) {
      const { ticks: own, ...rest } = checkedState(given, state());
      restoreAll(parts, rest);
      ticks = own!;
    },
    fresh: () =>
      combinedSchedule(
        parts.map((part) => part.fresh()),
        combination,
      ),
  };
}

function statesOf(parts: readonly Schedule[]): ScheduleState {
  return Object.fromEntries(
    parts.flatMap((part, i) => Object.entries(part.state()).map(([name, value]) => [`${i}/${name}`, value])),
  );
}

function restoreAll(parts: readonly Schedule[], states: ScheduleState): void {
  for (const [i, part] of parts.entries()) {
    const own = Object.entries(states).filter(([name]) => name.startsWith(`${i}/`));
    part.restore(Object.fromEntries(own.map(([name, value]) => [name.slice(`${i}/`.length), value])));
  }
}
