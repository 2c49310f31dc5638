import type { Schedule } from '../schedules/schedule.ts';
import type { RatesFacts } from './scan-facts.ts';

/** The rates of a scan: a schedule for all, then those of groups; and the metrics that were reported since they ticked. */
export class Rates {
  readonly #schedules: readonly Schedule[];
  #lrs: readonly number[];
  #epochs = 0;
  #metrics = new Map<string, number>();

  constructor(schedules: readonly Schedule[]) {
    this.#schedules = schedules;
    this.#lrs = schedules.map(({ lr }) => lr);
  }

  /** The rates of the next step. */
  get lrs(): readonly number[] {
    return this.#lrs;
  }

  /** How many epochs have ended. */
  get epochs(): number {
    return this.#epochs;
  }

  /** How many schedules there are. */
  get size(): number {
    return this.#schedules.length;
  }

  report(metric: string, value: number): void {
    this.#metrics.set(metric, value);
  }

  endEpoch(): void {
    this.#epochs += 1;
  }

  /** Changes the rates of the next step. A schedule that looks at a metric gets what was reported since the last tick. */
  tick(): void {
    const last = [...this.#metrics.values()].at(-1);
    for (const schedule of this.#schedules) schedule.tick(schedule.metric ? this.#metrics.get(schedule.metric) : last);
    this.#metrics.clear();
    this.#lrs = this.#schedules.map(({ lr }) => lr);
  }

  state(): RatesFacts {
    return {
      epochs: this.#epochs,
      schedules: this.#schedules.map((schedule) => schedule.state()),
      metrics: [...this.#metrics].map(([name, value]) => [name, String(value)]),
    };
  }

  restore({ epochs, schedules, metrics }: RatesFacts): void {
    this.#epochs = epochs;
    for (const [i, schedule] of this.#schedules.entries()) schedule.restore(schedules[i]!);
    this.#metrics = new Map(metrics.map(([name, value]) => [name, Number(value)]));
    this.#lrs = this.#schedules.map(({ lr }) => lr);
  }
}
