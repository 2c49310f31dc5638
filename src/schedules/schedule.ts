/** What a schedule is at: a few numbers, enough to go on from. */
export type ScheduleState = Readonly<Record<string, number>>;

/** A learning rate that changes as epochs end. */
export interface Schedule {
  /** The rate of the next step. */
  readonly lr: number;
  /** Ends an epoch. `metric` is what ReduceLROnPlateau looks at; the others ignore it. */
  tick(metric?: number): void;
  state(): ScheduleState;
  /** Goes on from what {@link state} gave. */
  restore(state: ScheduleState): void;
  /** The same schedule from its beginning. A scan runs on one of these, so that subscriptions share no state. */
  fresh(): Schedule;
}

/** A schedule that is a plain function of the number of ticks. */
export function tickedSchedule(rateAt: (ticks: number) => number): Schedule {
  let ticks = 0;
  let lr = rateAt(0);
  return {
    get lr() {
      return lr;
    },
    tick() {
      ticks += 1;
      lr = rateAt(ticks);
    },
    state: () => ({ ticks }),
    restore(state) {
      ticks = state.ticks ?? 0;
      lr = rateAt(ticks);
    },
    fresh: () => tickedSchedule(rateAt),
  };
}
