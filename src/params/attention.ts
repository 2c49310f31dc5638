import { setImmediate as eventLoopTurn } from 'node:timers/promises';

/** For how long after a prediction another one is reckoned with. */
const RECENT_MS = 100;
/** Turns of the event loop that a prediction takes, with those of the request around it. */
const MOST_TURNS = 16;
/** For how long work holds the thread where nobody waits. */
const STRETCH_MS = 0.5;
const LONGEST_STRETCH_MS = 2;

/**
 * The predictions that this thread is at, which long work on the same thread makes room for. Where some are under way or may come,
 * they have their turns first, and the work goes on for as long as those took: little between single ones, so that none waits
 * for long; half of the time where they never end, so that it is not starved.
 */
class Attention {
  #running = 0;
  #endedMs = Number.NEGATIVE_INFINITY;
  #turnMs = 0;

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

  /** For how long work may hold the thread now, before others have their turn. */
  get stretchMs(): number {
    return this.isWanted ? Math.min(LONGEST_STRETCH_MS, this.#turnMs) : STRETCH_MS;
  }

  /** Gives others their turn: everything else once, and predictions that are under way as often as they need, within bounds. */
  async turn(): Promise<void> {
    const start = performance.now();
    await eventLoopTurn();
    for (let turns = 1; this.#running > 0 && turns < MOST_TURNS; turns++) {
      if (performance.now() - start > LONGEST_STRETCH_MS) break;
      await eventLoopTurn();
    }
    this.#turnMs = performance.now() - start;
  }
}

export const attention = new Attention();
