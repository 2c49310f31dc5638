import { isRxgradError } from '../errors.ts';
import { channels } from '../observe/channels.ts';
import type { KeptVersion } from '../params/kept-versions.ts';
import type { Parameters } from '../params/parameters.ts';

/** Labels of kept versions that say which is live by a gate, which is on trial, and which to go back to. */
export class Roles {
  readonly #params: Parameters;

  constructor(params: Parameters) {
    this.#params = params;
  }

  /** Takes what is live as it is. */
  async begin(): Promise<number> {
    const { kept } = this.#params;
    const live = await kept.keep({ labels: ['stable'] });
    kept.unlabel('fallback');
    return live.version;
  }

  /** A candidate takes the place of what was live before, which becomes the fallback where there is none. */
  promote(candidate: number, before: number, fallback: number | null): KeptVersion {
    const { kept } = this.#params;
    kept.unlabel('candidate');
    const promoted = kept.label(candidate, 'stable');
    if (fallback === before) kept.label(before, 'fallback');
    return promoted;
  }

  /** Shows an earlier version, the fallback. */
  rollBack(version: number): void {
    const { kept } = this.#params;
    const start = performance.now();
    const fallback = kept.label(version, 'stable');
    this.#params.show(fallback);
    if (channels.swap.hasSubscribers) {
      const durationMs = performance.now() - start;
      channels.swap.publish({ kind: 'swap', at: 'gate', version: fallback.version, durationMs });
    }
    kept.unlabel('fallback');
  }

  confirm(): void {
    this.#params.kept.unlabel('fallback');
  }

  /** Lets the candidate go, unless somebody else has a use for it. */
  drop(): void {
    const { kept, liveVersion } = this.#params;
    if (!kept.has('candidate')) return;
    const { version, labels } = kept.find('candidate');
    kept.unlabel('candidate');
    if (labels.length > 1 || version === liveVersion) return;
    try {
      kept.forget(version);
    } catch (error) {
      // One that somebody reads goes when room is needed.
      if (!isRxgradError(error) || error.key !== 'stepUnderWay') throw error;
    }
  }
}
