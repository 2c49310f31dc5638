import type { Random } from './random.ts';

/** What a scenario stands on. */
export interface Ground {
  readonly random: Random;
  /** A folder of its own, removed behind it. */
  readonly folder: string;
  /** Addresses of a broker that nobody kills, comma-separated. */
  readonly brokers: () => Promise<string>;
  /** How long a scenario that has no end of its own goes on. Default: as it says itself. */
  readonly minutes?: number;
  /** Tells how it goes. */
  readonly say: (line: string) => void;
}

/** What came of a scenario. */
export interface Outcome {
  readonly counts: Readonly<Record<string, number | string>>;
  /** All that was not as it had to be. */
  readonly problems: readonly string[];
}
