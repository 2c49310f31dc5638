import type { InferenceSession } from 'onnxruntime-node';
import * as v from 'valibot';
import { count, nonNegative, parseOptions, positive } from '../options.ts';
import { type KeepVersionsOptions, keepSchema, type VersionSource } from './versions.ts';

export interface HotSwapSessionOptions {
  /** Initializers that become swappable weights. Default: the floating-point ones of rank 1 and up that are not mere settings. */
  readonly trainable?: readonly string[];
  /**
   * Passed on to onnxruntime. Default: one thread (`intraOpNumThreads: 1`), which is fastest for small models. Of
   * `executionProviders`, those that are not there are left out with a warning, and `cpu` comes last.
   */
  readonly session?: InferenceSession.SessionOptions;
  /** Threads that predict, over the same weights. Default 0: this thread does, which blocks its event loop meanwhile. */
  readonly workers?: number;
  /**
   * How weights are kept up to date. `inputs`: they are inputs of the model, and a swap is the flip of an index. `rebuild`: they are
   * constants, and a new session is built beside the one that serves, in threads. `auto`: whichever is measured to be the better.
   * Default `inputs`.
   */
  readonly strategy?: 'inputs' | 'rebuild' | 'auto';
  /** The least time between two builds of `rebuild`, in milliseconds. Default 0. */
  readonly rebuildEveryMs?: number;
  /** Rows up to which predictions are put together into one run. Default 1: each runs by itself. */
  readonly maxBatch?: number;
  /** How long a prediction may wait for others to go along, in milliseconds. Default 0: for what comes in the same turn of the event loop. */
  readonly maxDelayMs?: number;
  /** Predictions that may wait; one more is refused (`overloaded`). Default 1024. */
  readonly maxQueue?: number;
  /** What weights are too old to predict with. Default: none. */
  readonly maxStaleness?: StalenessOptions;
  /** Keeps some of the versions that go live, to go back to. Default: none by itself, see {@link HotSwapSession.keep}. */
  readonly keep?: KeepVersionsOptions;
  /** Where versions can be gone back to that are not in memory. */
  readonly checkpoints?: VersionSource;
}

export interface StalenessOptions {
  /** Age above which weights are stale, in milliseconds. */
  readonly ms?: number;
  /** How many versions behind the newest ones they may be. */
  readonly versions?: number;
  /** What becomes of predictions with stale weights: they are served as `stale`, with a warning a minute, or rejected. Default `serve`. */
  readonly action?: 'serve' | 'warn' | 'reject';
}

const schema = v.strictObject({
  trainable: v.optional(v.array(v.string())),
  session: v.optional(v.looseObject({})),
  workers: v.optional(v.pipe(v.number(), v.safeInteger('a whole number'), v.minValue(0), v.maxValue(128)), 0),
  strategy: v.optional(v.picklist(['inputs', 'rebuild', 'auto']), 'inputs'),
  rebuildEveryMs: v.optional(nonNegative, 0),
  maxBatch: v.optional(count, 1),
  maxDelayMs: v.optional(v.pipe(nonNegative, v.maxValue(60_000)), 0),
  maxQueue: v.optional(count, 1024),
  maxStaleness: v.optional(
    v.strictObject({
      ms: v.optional(positive),
      versions: v.optional(v.pipe(v.number(), v.safeInteger('a whole number'), v.minValue(0))),
      action: v.optional(v.picklist(['serve', 'warn', 'reject']), 'serve'),
    }),
  ),
  keep: v.optional(keepSchema),
  checkpoints: v.optional(
    v.custom<VersionSource>((store) => typeof (store as VersionSource | null)?.read === 'function', 'a store of checkpoints'),
  ),
});

export function parseSessionOptions(options: HotSwapSessionOptions) {
  return parseOptions(schema, options, 'HotSwapSession.load options');
}
