/** Which parameters' newest weights are all finite: those who write them tell. */
export class Finiteness {
  readonly #bad: Uint8Array;
  #badCount = 0;

  constructor(parameters: number) {
    this.#bad = new Uint8Array(parameters);
  }

  /** Whether all are. */
  get all(): boolean {
    return this.#badCount === 0;
  }

  /** Notes what was found in what was written of a parameter: all of it, or a part, beside which the rest stays as it was. */
  note(index: number, finite: boolean, whole: boolean): void {
    if (finite && !whole) return;
    const bad = finite ? 0 : 1;
    this.#badCount += bad - this.#bad[index]!;
    this.#bad[index] = bad;
  }
}
