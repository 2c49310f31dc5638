import { RxgradError } from '../errors.ts';
import type { Schedule } from '../schedules/schedule.ts';
import type { RatesFacts } from './scan-facts.ts';

/** The rates of a scan: a schedule for all, then those of groups; and the metrics that were reported since they ticked. */
export class Rates {
  readonly #schedules: readonly Schedule[];
  #lrs: readonly number[];
  #epochs = 0;
  #metrics = new Map<string, number>();
  /** Whether a schedule looks at whichever metric is reported, and which that is. */
  readonly #watchesAny: boolean;
  readonly #names: ReadonlySet<unknown>;
  #watched: string | null = null;

  constructor(schedules: readonly Schedule[]) {
    this.#schedules = schedules;
    this.#watchesAny = schedules.some(({ metric }) => metric === null);
    this.#names = new Set(schedules.map(({ metric }) => metric));
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

  /**
   * Notes a metric that a schedule looks at: others, whose number has no bound, are not kept. Fails where one looks at whichever is
   * reported, and another one was.
   */
  report(metric: string, value: number): void {
    if (this.#watchesAny) {
      this.#watched ??= metric;
      if (this.#watched !== metric) throw new RxgradError('ambiguousMetric', { first: this.#watched, second: metric });
    }
    if (this.#watchesAny || this.#names.has(metric)) this.#metrics.set(metric, value);
  }

  endEpoch(): void {
    this.#epochs += 1;
  }

  /** Changes the rates of the next step. A schedule that looks at a metric gets what was reported since the last tick. */
  tick(): void {
    for (const schedule of this.#schedules) {
      const metric = schedule.metric === null ? this.#watched : schedule.metric;
      schedule.tick(metric == null ? undefined : this.#metrics.get(metric));
    }
    this.#metrics.clear();
    this.#lrs = this.#schedules.map(({ lr }) => lr);
  }

  state(): RatesFacts {
    return {
      epochs: this.#epochs,
      schedules: this.#schedules.map((schedule) => schedule.state()),
      metrics: [...this.#metrics].map(([name, value]) => [name, String(value)]),
      ...(this.#watched === null ? {} : { watched: this.#watched }),
    };
  }

  restore({ epochs, schedules, metrics, watched }: RatesFacts): void {
    this.#epochs = epochs;
    for (const [i, schedule] of this.#schedules.entries()) schedule.restore(schedules[i]!);
    this.#metrics = new Map(metrics.map(([name, value]) => [name, Number(value)]));
    this.#watched = this.#watchesAny ? (watched ?? null) : null;
    this.#lrs = this.#schedules.map(({ lr }) => lr);
  }
}
