import type { Slot } from '../../params/left-right.ts';
import type { Feeds, Runner, RunResult } from '../runner.ts';

/** A runner that is opened when it is first asked: for what may never be. */
export class LateRunner {
  readonly #open: () => Promise<Runner>;
  #opened: Promise<Runner> | null = null;

  constructor(open: () => Promise<Runner>) {
    this.#open = open;
  }

  async run(feeds: Feeds, slot: Slot): Promise<RunResult> {
    this.#opened ??= this.#open();
    const runner = await this.#opened;
    return runner.run(feeds, slot);
  }

  async close(): Promise<void> {
    // One that could not be opened holds nothing.
    const runner = await this.#opened?.catch(() => null);
    await runner?.close();
  }
}
