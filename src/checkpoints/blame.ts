import { RxgradError } from '../errors.ts';
import type { Position } from '../events.ts';
import type { Parameters } from '../params/parameters.ts';
import { readFacts } from './checkpoint-file.ts';
import { newestWhole, type OpenedCheckpoint, openVersion } from './recover.ts';
import { type ReplayOptions, replayFrom } from './replay.ts';

export interface BlameOptions extends Pick<ReplayOptions, 'store' | 'transport' | 'topic' | 'scan'> {
  /** The metric of some weights: a loss over examples that are held out, for instance. */
  readonly measure: (params: Parameters) => number | Promise<number>;
  /** Whether a value is bad. Default: where it is nearer to the last version's than to the first's. */
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
  const search = new Search(options, good, bad);
  await search.begin();
  await search.narrow(versions.filter((version) => version > good && version < bad));
  return search.finish();
}

/** What is known: a version that is good, and a later one that is bad. */
class Search {
  readonly #options: BlameOptions;
  #good: { version: number; value: number; from: OpenedCheckpoint };
  #bad: { version: number; value: number };
  #isBad: (value: number) => boolean = () => false;

  constructor(options: BlameOptions, good: number, bad: number) {
    this.#options = options;
    this.#good = { version: good, value: Number.NaN, from: null as never };
    this.#bad = { version: bad, value: Number.NaN };
  }

  async begin(): Promise<void> {
    const first = await this.#rebuild(this.#good.version, await this.#checkpointBefore(this.#good.version));
    const value = await this.#measure(first.params);
    this.#good = { version: this.#good.version, value, from: first.from };
    const last = await this.#rebuild(this.#bad.version, await this.#checkpointBefore(this.#bad.version));
    this.#bad = { version: this.#bad.version, value: await this.#measure(last.params) };
    const { value: before } = this.#good;
    const { value: after } = this.#bad;
    // What is no number is bad, and is near to nothing.
    this.#isBad = this.#options.isBad ?? ((measured) => !(Math.abs(measured - before) <= Math.abs(measured - after)));
    if (!this.#isBad(before) && this.#isBad(after)) return;
    throw new RxgradError('invalidOption', {
      option: 'blame',
      expected: `a good value at version ${this.#good.version}, and a bad one at version ${this.#bad.version}`,
      got: `${before} and ${after}`,
    });
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
    const { params, from } = await this.#rebuild(version, start);
    const value = await this.#measure(params);
    if (this.#isBad(value)) this.#bad = { version, value };
    else this.#good = { version, value, from };
  }

  async #checkpointBefore(version: number): Promise<OpenedCheckpoint> {
    const found = await newestWhole(this.#options.store, version);
    if (found) return found;
    throw new RxgradError('invalidOption', { option: 'blame', expected: 'a checkpoint before that version', got: version });
  }

  /** Parameters at a version, and what later replays can start from. */
  async #rebuild(version: number, start: OpenedCheckpoint): Promise<{ params: Parameters; from: OpenedCheckpoint }> {
    const params = await replayFrom(start, { ...this.#options, to: { version } });
    const file = params.stateDict();
    return { params, from: { ...start, file, facts: readFacts(file, start.where) } };
  }

  async #measure(params: Parameters): Promise<number> {
    const value = await this.#options.measure(params);
    this.#options.onMeasured?.(params.version, value);
    return value;
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
