import * as v from 'valibot';
import { finite, parseOptions } from '../options.ts';

/** What a schedule is at: a few finite numbers (so JSON holds them), enough to go on from. */
export type ScheduleState = Readonly<Record<string, number>>;

/** A rate as plain data. */
export type RateConfig = number | { readonly type: string; readonly [option: string]: unknown };

/** A learning rate that changes as epochs end. */
export interface Schedule {
  /** The rate of the next step. */
  readonly lr: number;
  /** It as plain data: a number, or type and options as a config has them. Absent where it is made of a function. */
  readonly config?: RateConfig;
  /** The rate that the schedule scales: `lr / baseLr` is its factor. */
  readonly baseLr: number;
  /** Name of the MetricReport that {@link tick} is to be given; null for the one that there is. Absent where it looks at none. */
  readonly metric?: string | null;
  /** Ends an epoch. `metric` is what ReduceLROnPlateau looks at; the others ignore it. */
  tick(metric?: number): void;
  state(): ScheduleState;
  /** Goes on from what {@link state} gave. Anything else is refused, and changes nothing. */
  restore(state: ScheduleState): void;
  /** The same schedule from its beginning. A scan runs on one of these, so that subscriptions share no state. */
  fresh(): Schedule;
}

/** A schedule that is a plain function of the number of ticks. `config` says which, where plain data can. */
export function tickedSchedule(config: RateConfig | null, baseLr: number, rateAt: (ticks: number) => number): Schedule {
  let ticks = 0;
  let lr = rateAt(0);
  return {
    ...(config === null ? {} : { config }),
    baseLr,
    get lr() {
      return lr;
    },
    tick() {
      ticks += 1;
      lr = rateAt(ticks);
    },
    state: () => ({ ticks }),
    restore(state) {
      ticks = checkedState(state, { ticks }).ticks;
      lr = rateAt(ticks);
    },
    fresh: () => tickedSchedule(config, baseLr, rateAt),
  };
}

/** Checks that a state has the numbers that `like` has, and no others. */
export function checkedState<S extends ScheduleState>(state: ScheduleState, like: S): S {
  const entries = Object.fromEntries(Object.keys(like).map((name) => [name, finite]));
  return parseOptions(v.strictObject(entries), state, 'state of the schedule') as S;
}
