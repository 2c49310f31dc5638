import type { Tensor } from 'onnxruntime-node';
import { type PlainFeeds, plainFeeds } from '../rebuilding/plain-feeds.ts';
import type { Feeds } from '../runner.ts';
import { median } from './median.ts';

/** What predictions and swaps have been like lately. */
export interface Load {
  /** Runs seen in all. */
  readonly runs: number;
  /** Median rows of a run. */
  readonly batch: number;
  /** Between two versions that were seen live; Infinity where there was none. */
  readonly swapEveryMs: number;
  /** Versions that the scan makes in a millisecond. */
  readonly versionsPerMs: number;
}

const RECENT_RUNS = 64;
const RECENT_SWAPS = 32;
const SAMPLES = 4;
/** One in so many runs has its inputs copied. */
const SAMPLE_EVERY = 16;
const MOST_SAMPLED_BYTES = 2 ** 22;

/** Watches what a session runs, at next to no cost. */
export class LoadWatch {
  readonly #rows: number[] = [];
  readonly #swaps: { readonly at: number; readonly version: number }[] = [];
  #samples: PlainFeeds[] = [];
  #runs = 0;

  get runs(): number {
    return this.#runs;
  }

  /** Copies of some inputs of late. */
  get samples(): readonly PlainFeeds[] {
    return this.#samples;
  }

  /** To be told each run's inputs, and the version that is live at the time. */
  note(feeds: Feeds, version: number): void {
    const run = this.#runs++;
    this.#rows[run % RECENT_RUNS] = rowsOf(feeds);
    if (run < SAMPLES || run % SAMPLE_EVERY === 0) this.#sample(feeds);
    this.noteVersion(version);
  }

  noteVersion(version: number): void {
    if (version === this.#swaps.at(-1)?.version) return;
    this.#swaps.push({ at: performance.now(), version });
    if (this.#swaps.length > RECENT_SWAPS) this.#swaps.shift();
  }

  load(now = performance.now()): Load {
    return { runs: this.#runs, batch: this.#runs === 0 ? 1 : median(this.#rows), ...this.#swapRate(now) };
  }

  #swapRate(now: number): Pick<Load, 'swapEveryMs' | 'versionsPerMs'> {
    const [first] = this.#swaps;
    const count = this.#swaps.length - 1;
    if (!first || count < 1) return { swapEveryMs: Infinity, versionsPerMs: 0 };
    // What has not come yet counts, too.
    const elapsed = Math.max(now - first.at, 1e-3);
    const made = Math.max(0, this.#swaps.at(-1)!.version - first.version);
    return { swapEveryMs: elapsed / count, versionsPerMs: made / elapsed };
  }

  #sample(feeds: Feeds): void {
    const bytes = Object.values(feeds).reduce((sum, { data }) => sum + ((data as Float32Array).byteLength ?? data.length), 0);
    if (bytes > MOST_SAMPLED_BYTES) return;
    this.#samples.push(plainFeeds(feeds));
    if (this.#samples.length > SAMPLES) this.#samples.shift();
  }
}

function rowsOf(feeds: Feeds): number {
  for (const name in feeds) return (feeds[name] as Tensor).dims[0] ?? 1;
  return 1;
}
