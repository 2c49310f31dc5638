import { setImmediate as eventLoopTurn } from 'node:timers/promises';

/** For how long after a prediction another one is reckoned with. */
const RECENT_MS = 100;
/** Turns of the event loop that a prediction takes, with those of the request around it. */
const MOST_TURNS = 16;

/** The predictions that this thread is at: long work on the same thread is done in shorter stretches, and they come first. */
class Attention {
  #running = 0;
  #endedMs = Number.NEGATIVE_INFINITY;

  begin(): void {
    this.#running += 1;
  }

  end(): void {
    this.#running -= 1;
    this.#endedMs = performance.now();
  }

  /** Whether somebody waits for a prediction, or may do so soon. */
  get isWanted(): boolean {
    return this.#running > 0 || performance.now() - this.#endedMs < RECENT_MS;
  }

  /** Gives others their turn: everything else once, and predictions that are under way as often as they need, within bounds. */
  async turn(): Promise<void> {
    await eventLoopTurn();
    for (let turns = 1; this.#running > 0 && turns < MOST_TURNS; turns++) await eventLoopTurn();
  }
}

export const attention = new Attention();
