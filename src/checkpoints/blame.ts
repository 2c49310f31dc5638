import { RxgradError } from '../errors.ts';
import type { Position } from '../events.ts';
import type { Parameters } from '../params/parameters.ts';
import { readFacts } from './checkpoint-file.ts';
import type { CheckpointStore } from './checkpoint-store.ts';
import { newestWhole, type OpenedCheckpoint, openVersion } from './opened-checkpoint.ts';
import { type ReplayOptions, replayFrom } from './replay.ts';

export interface BlameOptions extends Pick<ReplayOptions, 'store' | 'transport' | 'topic' | 'scan'> {
  /** The metric of some weights: a loss over examples that are held out, for instance. */
  readonly measure: (params: Parameters) => number | Promise<number>;
  /** Whether a value is bad. Default: where it is not finite, or nearer to the last version's than to the first's. */
  readonly isBad?: (value: number) => boolean;
  /** A version at which all was well. Default: that of the oldest checkpoint. */
  readonly good?: number;
  /** A version at which it was not. Default: that of the newest checkpoint. */
  readonly bad?: number;
  /** Is told each value that was measured. */
  readonly onMeasured?: (version: number, value: number) => void;
}

/** The batch with which a metric went bad. */
export interface Blamed {
  /** The version that it made: the first bad one. */
  readonly version: number;
  /** Where it stands in the log: of merged batches, the last part. */
  readonly position: Position | null;
  /** Values of the metric before it and behind it. */
  readonly before: number;
  readonly after: number;
}

/**
 * Finds the first version at which a metric was bad, and the record that made it: by bisection, first over the checkpoints, then
 * between two of them by replays. Where it went bad more than once, one of those is found.
 */
export async function blame(options: BlameOptions): Promise<Blamed> {
  const { store } = options;
  const versions = (await store.list()).map(({ version }) => version).reverse();
  const good = options.good ?? versions[0];
  const bad = options.bad ?? versions.at(-1);
  if (good === undefined || bad === undefined || good >= bad) {
    const got = good === undefined ? 'none' : `${good} and ${bad}`;
    throw new RxgradError('invalidOption', { option: 'blame: good and bad', expected: 'two versions, the bad one later', got });
  }
  const search = await Search.between(options, good, bad);
  await search.narrow(versions.filter((version) => version > good && version < bad));
  return search.finish();
}

/** A version whose metric is known, and what replays from it can start from. */
interface Measured {
  readonly version: number;
  readonly value: number;
  readonly from: OpenedCheckpoint;
}

/** What is known: a version that is good, and a later one that is bad. */
class Search {
  readonly #options: BlameOptions;
  readonly #isBad: (value: number) => boolean;
  #good: Measured;
  #bad: Measured;

  /** Measures both ends. Fails where the first is bad, or the last is not. */
  static async between(options: BlameOptions, good: number, bad: number): Promise<Search> {
    const first = await measured(options, good, await checkpointBefore(options.store, good));
    const last = await measured(options, bad, await checkpointBefore(options.store, bad));
    const search = new Search(options, first, last);
    if (!search.#isBad(first.value) && search.#isBad(last.value)) return search;
    const expected = `a good value at version ${good}, and a bad one at version ${bad}`;
    throw new RxgradError('invalidOption', { option: 'blame', expected, got: `${first.value} and ${last.value}` });
  }

  private constructor(options: BlameOptions, good: Measured, bad: Measured) {
    this.#options = options;
    this.#good = good;
    this.#bad = bad;
    // A value that is not finite is bad, and has no distance to others.
    const isFarther = (value: number): boolean => Math.abs(value - good.value) > Math.abs(value - bad.value);
    this.#isBad = options.isBad ?? ((value) => !Number.isFinite(value) || isFarther(value));
  }

  /** Bisects over versions that have a checkpoint. */
  async narrow(versions: readonly number[]): Promise<void> {
    let left = [...versions];
    while (left.length > 0) {
      const middle = left[Math.floor(left.length / 2)]!;
      const opened = await openVersion(this.#options.store, middle).catch(() => null);
      if (opened) await this.#look(middle, opened);
      left = left.filter((version) => version !== middle && version > this.#good.version && version < this.#bad.version);
    }
  }

  async finish(): Promise<Blamed> {
    while (this.#bad.version - this.#good.version > 1) {
      await this.#look(Math.floor((this.#good.version + this.#bad.version) / 2), this.#good.from);
    }
    const position = await this.#positionOf(this.#bad.version);
    return { version: this.#bad.version, position, before: this.#good.value, after: this.#bad.value };
  }

  async #look(version: number, start: OpenedCheckpoint): Promise<void> {
    const found = await measured(this.#options, version, start);
    if (this.#isBad(found.value)) this.#bad = found;
    else this.#good = found;
  }

  /** The record that made a version, one above the good one. */
  async #positionOf(version: number): Promise<Position | null> {
    let position: Position | null = null;
    await replayFrom(this.#good.from, {
      ...this.#options,
      to: { version },
      onUpdate: (update) => {
        position = update.position;
      },
    });
    return position;
  }
}

async function checkpointBefore(store: CheckpointStore, version: number): Promise<OpenedCheckpoint> {
  const found = await newestWhole(store, version);
  if (found) return found;
  throw new RxgradError('invalidOption', { option: 'blame', expected: 'a checkpoint before that version', got: version });
}

/** Rebuilds parameters at a version and measures them. */
async function measured(options: BlameOptions, version: number, start: OpenedCheckpoint): Promise<Measured> {
  const params = await replayFrom(start, { ...options, to: { version } });
  const value = await options.measure(params);
  options.onMeasured?.(version, value);
  const file = params.stateDict();
  return { version, value, from: { ...start, file, facts: readFacts(file, start.where) } };
}
