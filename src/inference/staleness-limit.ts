import { RxgradError } from '../errors.ts';
import type { WeightsFacts } from '../params/origins.ts';
import type { StalenessOptions } from './session-options.ts';

const WARNING_PERIOD_MS = 60_000;

/** Tells which weights are too old to predict with, and does about it what was asked for. */
export class StalenessLimit {
  readonly #model: string;
  readonly #ms: number;
  readonly #versions: number;
  readonly #action: 'serve' | 'warn' | 'reject';
  #warnedAt = -Infinity;

  constructor(model: string, { ms = Infinity, versions = Infinity, action = 'serve' }: StalenessOptions = {}) {
    this.#model = model;
    this.#ms = ms;
    this.#versions = versions;
    this.#action = action;
  }

  /** Whether weights are stale; fails where such are to be rejected. */
  check({ version }: WeightsFacts, ageMs: number, newest: number): boolean {
    const isOld = ageMs > this.#ms;
    if (!isOld && newest - version <= this.#versions) return false;
    if (this.#action === 'serve') return true;
    const expected = isOld ? `of at most ${this.#ms} ms` : `at most ${this.#versions} versions behind ${newest}`;
    const error = new RxgradError('staleWeights', { model: this.#model, expected, version, got: `${Math.round(ageMs)} ms old` });
    if (this.#action === 'reject') throw error;
    this.#warn(error);
    return true;
  }

  #warn({ message, code }: RxgradError): void {
    const now = performance.now();
    if (now - this.#warnedAt < WARNING_PERIOD_MS) return;
    this.#warnedAt = now;
    process.emitWarning(message, { type: 'StaleWeightsWarning', code });
  }
}
