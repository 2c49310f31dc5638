import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import type { Subscription } from 'rxjs';
import type { Observation } from '../observe/channels.ts';
import { type Figures, nextFigures, noFigures } from '../observe/figures.ts';
import { observations } from '../observe/observations.ts';

/** Follows a run through the channels of this process: its figures, and the distribution of its times. */
export class Meter {
  #figures = noFigures;
  readonly #subscription: Subscription;
  readonly #start = performance.now();
  /** Nanoseconds. */
  readonly swap = createHistogram();
  /** Nanoseconds of computing one prediction. */
  readonly prediction = createHistogram();
  /** Nanoseconds. */
  readonly step = createHistogram();
  /** Versions, plus 1: a histogram holds nothing below 1. */
  readonly #staleness = createHistogram();

  constructor() {
    this.#subscription = observations().subscribe((observation) => this.#add(observation));
  }

  get figures(): Figures {
    return this.#figures;
  }

  get seconds(): number {
    return (performance.now() - this.#start) / 1000;
  }

  get stepsPerSecond(): number {
    return this.step.count / this.seconds;
  }

  get staleness(): { readonly mean: number; readonly max: number } {
    const { count, mean, max } = this.#staleness;
    return count === 0 ? { mean: Number.NaN, max: Number.NaN } : { mean: mean - 1, max: max - 1 };
  }

  get rejected(): number {
    return Object.values(this.#figures.rejections).reduce((sum, count) => sum + count, 0);
  }

  close(): void {
    this.#subscription.unsubscribe();
  }

  #add(observation: Observation): void {
    this.#figures = nextFigures(this.#figures, observation);
    if (observation.kind === 'swap') record(this.swap, observation.durationMs);
    else if (observation.kind === 'prediction') record(this.prediction, observation.durationMs);
    else if (observation.kind === 'step') {
      record(this.step, observation.durationMs);
      if (observation.staleness !== undefined && observation.staleness >= 0) this.#staleness.record(observation.staleness + 1);
    }
  }
}

/** A duration in nanoseconds, as words. */
export function duration(nanoseconds: number): string {
  if (!Number.isFinite(nanoseconds)) return '–';
  if (nanoseconds < 1e3) return `${nanoseconds.toFixed(0)} ns`;
  if (nanoseconds < 1e6) return `${(nanoseconds / 1e3).toFixed(1)} µs`;
  return `${(nanoseconds / 1e6).toFixed(2)} ms`;
}

/** The middle and the 99th percentile of a histogram of nanoseconds, as words. */
export function percentiles(histogram: RecordableHistogram): string {
  if (histogram.count === 0) return '–';
  return `${duration(histogram.percentile(50))} / ${duration(histogram.percentile(99))}`;
}

function record(histogram: RecordableHistogram, milliseconds: number): void {
  histogram.record(Math.max(1, Math.round(milliseconds * 1e6)));
}
