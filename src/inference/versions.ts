import * as v from 'valibot';
import { RxgradError } from '../errors.ts';
import { count, positive } from '../options.ts';
import type { KeptVersion } from '../params/kept-versions.ts';
import type { LogPlace, WeightsFacts } from '../params/origins.ts';
import type { Parameters } from '../params/parameters.ts';
import { type KeptState, readStateDict } from '../params/state-dict.ts';
import type { Weights } from '../params/weights-reader.ts';

/** Where older versions can be had: a `CheckpointStore` is one. */
export interface VersionSource {
  readonly name: string;
  list(): Promise<readonly { readonly version: number; readonly savedAtMs: number }[]>;
  read(version: number): Promise<Uint8Array>;
}

export interface KeepVersionsOptions {
  /** How many versions stay in memory, beside those that have labels. Default 5. */
  readonly last?: number;
  /** Milliseconds between two versions that are kept. Default 10,000, where `everyVersions` is not given. */
  readonly everyMs?: number;
  /** Versions between two that are kept. */
  readonly everyVersions?: number;
}

/** A version that predictions can be asked of, or that can be gone back to. */
export interface VersionEntry {
  readonly version: number;
  /** Milliseconds since 1970 (UTC) when its weights were made. */
  readonly madeAtMs: number;
  /** The last event of the log that it contains; null where that is not known. */
  readonly position: LogPlace | null;
  readonly labels: readonly string[];
  readonly live: boolean;
  readonly pinned: boolean;
  /** Whether its weights are in memory; else they are in the checkpoints. */
  readonly inMemory: boolean;
}

/** The schema of {@link KeepVersionsOptions}. */
export const keepSchema = v.strictObject({
  last: v.optional(count, 5),
  everyMs: v.optional(positive),
  everyVersions: v.optional(count),
});

/**
 * The versions of a served model: keeps some of those that go live, shows earlier ones again, and gives them names. What is
 * shown again stays until {@link unpin}, whatever training makes meanwhile.
 */
export class Versions {
  readonly #params: Parameters;
  readonly #source: VersionSource | null;
  readonly #everyMs: number;
  readonly #everyVersions: number;
  #keptAtMs = Number.NEGATIVE_INFINITY;
  #keptVersion = Number.NEGATIVE_INFINITY;
  #keeping: Promise<unknown> | null = null;

  /** Without `keep` none is kept by itself. */
  constructor(params: Parameters, keep: v.InferOutput<typeof keepSchema> | undefined, source: VersionSource | null) {
    this.#params = params;
    this.#source = source;
    const never = Number.POSITIVE_INFINITY;
    if (keep) params.kept.limit = keep.last;
    this.#everyMs = keep ? (keep.everyMs ?? (keep.everyVersions === undefined ? 10_000 : never)) : never;
    this.#everyVersions = keep?.everyVersions ?? never;
  }

  /** Is told that other weights went live, whoever has shown them: keeps them, if it is time. */
  note(): void {
    if (this.#keeping || (this.#everyMs === Number.POSITIVE_INFINITY && this.#everyVersions === Number.POSITIVE_INFINITY)) return;
    const now = performance.now();
    const { liveVersion, kept } = this.#params;
    if (kept.has(liveVersion)) return;
    if (now - this.#keptAtMs < this.#everyMs && liveVersion - this.#keptVersion < this.#everyVersions) return;
    this.#keptAtMs = now;
    this.#keptVersion = liveVersion;
    this.#keeping = kept
      .keep()
      .catch((error: Error) => process.emitWarning(error.message, { code: 'RXGRAD_VERSION_NOT_KEPT' }))
      .finally(() => {
        this.#keeping = null;
      });
  }

  /** Keeps the live version, under these names if there are any. */
  async keep(labels: readonly string[] = []): Promise<VersionEntry> {
    return this.#entry(await this.#params.kept.keep({ labels }));
  }

  /** All versions, newest first. */
  async list(): Promise<VersionEntry[]> {
    const { kept, live } = this.#params;
    const entries = new Map<number, VersionEntry>();
    const stored = (await this.#source?.list()) ?? [];
    for (const { version, savedAtMs } of stored) {
      entries.set(version, this.#entry({ version, madeAtMs: savedAtMs, position: null, labels: [] }, false));
    }
    entries.set(live.version, this.#entry({ ...live, labels: [] }));
    for (const version of kept.list()) entries.set(version.version, this.#entry(version));
    return [...entries.values()].sort((a, b) => b.version - a.version);
  }

  /** Whether predictions can be asked of it: it is in memory, by its number or by one of its names. */
  has(version: number | string): boolean {
    return this.#params.kept.has(version) || this.#params.liveVersion === version;
  }

  /**
   * Makes an earlier version live, and keeps it so: one in memory at once, else from the checkpoints. Without a version, the
   * newest in memory that is older than the live one.
   */
  async rollback(version?: number | string): Promise<VersionEntry> {
    const { kept, liveVersion } = this.#params;
    const previous = kept.list().find((one) => one.version < liveVersion);
    const wanted = version ?? previous?.version;
    if (wanted !== undefined) return this.pin(wanted);
    const expected = `one in memory that is older than ${liveVersion}`;
    throw new RxgradError('unknownVersion', { store: 'versions in memory', expected, got: 'none' });
  }

  /** Keeps the live version live, or makes another one so, until {@link unpin}. */
  async pin(version?: number | string): Promise<VersionEntry> {
    const params = this.#params;
    if (version === undefined || (version === params.liveVersion && !params.kept.has(version))) params.pin();
    else await this.#inMemory(version, (kept) => params.pin(kept));
    return this.#entry({ ...params.live, labels: this.#labelsOf(params.liveVersion) });
  }

  /** Lets what training or a gate has wished for last go live. */
  unpin(): VersionEntry {
    this.#params.unpin();
    return this.#entry({ ...this.#params.live, labels: this.#labelsOf(this.#params.liveVersion) });
  }

  /** Gives a version a name, such as `stable`; whichever had it loses it. It stays in memory as long as it has one. */
  async label(version: number | string, name: string): Promise<VersionEntry> {
    const { kept, liveVersion } = this.#params;
    if (version === liveVersion && !kept.has(version)) return this.keep([name]);
    return this.#inMemory(version, () => this.#entry(kept.label(version, name)));
  }

  unlabel(name: string): void {
    this.#params.kept.unlabel(name);
  }

  /** Does something with a version that is in memory, or is brought there, in the same turn: it may be let go in the next. */
  async #inMemory<T>(version: number | string, use: (kept: KeptVersion) => T): Promise<T> {
    const { kept } = this.#params;
    if (kept.has(version) || typeof version === 'string' || !this.#source) return use(kept.find(version));
    const entry = (await this.#source.list()).find((one) => one.version === version);
    if (!entry) {
      const expected = (await this.list()).map((one) => one.version).join(', ');
      throw new RxgradError('unknownVersion', { store: this.#source.name, expected, got: version });
    }
    const dict = readStateDict(this.#params.places, await this.#source.read(version), { strict: true, exact: false });
    const weights = averageIn(dict.state) ?? dict.weights;
    if (!Object.values(weights).every((values) => values.every(Number.isFinite))) {
      throw new RxgradError('weightsNotFinite', { version });
    }
    return use(kept.add({ version, madeAtMs: entry.savedAtMs, position: null }, weights));
  }

  #labelsOf(version: number): readonly string[] {
    return this.#params.kept.list().find((kept) => kept.version === version)?.labels ?? [];
  }

  #entry(facts: WeightsFacts & { readonly labels: readonly string[] }, inMemory = true): VersionEntry {
    const { version, madeAtMs, position, labels } = facts;
    const live = version === this.#params.liveVersion;
    return { version, madeAtMs, position, labels, live, pinned: live && this.#params.pinned, inMemory };
  }
}

/** What was served in place of the weights, where they had an average. */
function averageIn(state: KeptState | null): Weights | null {
  const averages = state?.tensors.filter(({ key }) => key === 'average') ?? [];
  return averages.length === 0 ? null : Object.fromEntries(averages.map(({ parameter, data }) => [parameter, data]));
}
