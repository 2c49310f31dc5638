import type { Difference, Written } from './differences.ts';
import type { Origin, Slot } from './left-right.ts';
import type { WeightBuffers } from './weight-buffers.ts';

/**
 * Writes the weights of some parameters, one version after the other, on a side that nobody reads. What a step does not write
 * whole has to be brought up to date there first: see {@link lack}.
 */
export class WeightsWriter {
  readonly params: WeightBuffers;
  #slot: Slot = 0;

  constructor(params: WeightBuffers) {
    this.params = params;
  }

  /** Whether the side to be written is still being read. */
  get blocked(): boolean {
    const { leftRight } = this.params;
    return !leftRight.isFree(leftRight.target);
  }

  /** Resolves when {@link begin} can go on at once. */
  async whenFree(): Promise<void> {
    const { leftRight } = this.params;
    await leftRight.readers.untilFree(() => leftRight.target);
  }

  /** Chooses the side for the next version. */
  begin(): void {
    this.#slot = this.params.leftRight.begin();
  }

  /** As {@link begin}, however much is being read, for a version that is written whole where it is not written in place. */
  beginWhole(): void {
    this.#slot = this.params.leftRight.beginWhole();
  }

  /** The number of the newest weights. */
  get version(): number {
    return this.params.leftRight.version(this.params.leftRight.latest);
  }

  /** The address of the newest weights. */
  get from(): number {
    return this.params.leftRight.address(this.params.leftRight.latest);
  }

  /** The address to write at: that of the newest weights, where nobody reads. */
  get to(): number {
    return this.params.leftRight.address(this.#slot);
  }

  /** Whether the newest weights are written over. */
  get inPlace(): boolean {
    return this.#slot === this.params.leftRight.latest;
  }

  /** What the side to be written lacks of a parameter, or null. */
  lack(index: number): Difference | null {
    if (this.inPlace) return null;
    const difference = this.params.differences.of(index);
    return difference.whole || difference.count > 0 ? difference : null;
  }

  /** Makes what was written the newest version. `note` tells what that was. */
  commit(version: number, origin: Origin, note: (written: Written) => void): void {
    const { leftRight, differences, followers } = this.params;
    if (!this.inPlace) differences.clear();
    note(differences);
    for (const changes of followers) note(changes);
    leftRight.commit(this.#slot, version, origin);
  }
}
