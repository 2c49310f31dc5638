import type { Load } from './load-watch.ts';

export type Strategy = 'inputs' | 'rebuild';

/** What was measured of both strategies. */
export interface StrategyFigures {
  /** Rows of the runs that were measured, at the median. */
  readonly batch: number;
  /** Median time of a run with the weights as inputs. */
  readonly inputsMs: number;
  /** Median time of a run with constant weights, and of the way to its thread and back where inputs would run on this one. */
  readonly rebuildMs: number;
  /** To build a session and run it once. */
  readonly buildMs: number;
}

/** What a choice has to keep to. */
export interface ChoiceLimits {
  /** Threads that serve. */
  readonly workers: number;
  /** How stale weights may be. */
  readonly ms: number | undefined;
  readonly versions: number | undefined;
  /** Whether another provider than the CPU is in use. Weights as inputs are copied to it in each run. */
  readonly isUploaded: boolean;
}

export interface Choice {
  readonly taken: Strategy;
  /** Why, in words and figures. */
  readonly reason: string;
  /** The least time between two builds that keeps them to half of a core. */
  readonly pauseMs: number;
}

/** The part of the time that rebuild has to save before it is worth its builds. */
const CLEARLY = 0.9;
/** To be given up, what is in use has to be worse by so much: the choice is not to go back and forth. */
const STICKS = 1.25;
const MOST_STALE_MS = 1000;

/**
 * Chooses a strategy by its figures: rebuild where it predicts in clearly less time, and builds fit the rate of swaps: weights
 * that it serves are behind by one build, and where swaps come faster than builds, by two and the pause between them.
 */
export function chooseStrategy(
  figures: StrategyFigures,
  { swapEveryMs, versionsPerMs }: Pick<Load, 'swapEveryMs' | 'versionsPerMs'>,
  { workers, ms = MOST_STALE_MS, versions = Infinity, isUploaded }: ChoiceLimits,
  current: Strategy,
): Choice {
  const { batch, inputsMs, rebuildMs, buildMs } = figures;
  const pauseMs = (2 * workers - 1) * buildMs;
  const isRare = swapEveryMs > 2 * workers * buildMs;
  const staleMs = isRare ? buildMs : 2 * buildMs + pauseMs;
  const staleVersions = staleMs * versionsPerMs;
  const ratio = rebuildMs / inputsMs;
  const slack = current === 'rebuild' ? STICKS : 1;
  const most = isUploaded || current === 'rebuild' ? 1 : CLEARLY;

  const times = `rebuild takes ${shown(rebuildMs)} ms a run of ${batch} row${batch === 1 ? '' : 's'}, inputs ${shown(inputsMs)} (${shown(ratio)} of it)`;
  const build = `a build takes ${shown(buildMs)} ms`;
  const swaps = swapEveryMs === Infinity ? 'no swaps so far' : `a swap every ${shown(swapEveryMs)} ms`;
  if (!(ratio < most)) return { taken: 'inputs', reason: `${times}, which is not below ${most}`, pauseMs };
  if (staleMs > ms * slack) {
    const reason = `${times}, but ${build}, so that weights would be up to ${shown(staleMs)} ms behind, above ${shown(ms)} (${swaps})`;
    return { taken: 'inputs', reason, pauseMs };
  }
  if (staleVersions > versions * slack) {
    const reason = `${times}, but ${build}, so that weights would be up to ${shown(staleVersions)} versions behind, above ${versions} (${swaps})`;
    return { taken: 'inputs', reason, pauseMs };
  }
  return { taken: 'rebuild', reason: `${times}, and ${build}, with ${swaps}`, pauseMs };
}

function shown(value: number): string {
  return String(Number(value.toPrecision(3)));
}
