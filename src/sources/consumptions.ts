import type { ConsumeOptions, Consumption } from './transport.ts';

/** The consumptions of a transport that are under way. */
export class Consumptions {
  readonly #running = new Set<Consumption>();

  /** Notes one. What is returned stops it; whoever it hands records out to is told, and lets go. */
  add(consumption: Consumption, { onStop }: Pick<ConsumeOptions, 'onStop'>): Consumption {
    const running: Consumption = {
      ...consumption,
      stop: () => {
        onStop?.();
        return consumption.stop().finally(() => this.#running.delete(running));
      },
    };
    this.#running.add(running);
    return running;
  }

  /** Stops all, and those that are begun meanwhile: one that is left would keep the process alive. */
  async stop(): Promise<void> {
    while (this.#running.size > 0) {
      const all = [...this.#running];
      await Promise.all(all.map((running) => running.stop()));
      for (const stopped of all) this.#running.delete(stopped);
    }
  }
}
