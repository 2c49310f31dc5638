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

  /**
   * Stops all, and those that are begun meanwhile: one that is left would keep the process alive. Fails as the first one that did, when all
   * have ended.
   */
  async stop(): Promise<void> {
    const failures: unknown[] = [];
    while (this.#running.size > 0) {
      const ends = await Promise.allSettled([...this.#running].map((running) => running.stop()));
      for (const end of ends) if (end.status === 'rejected') failures.push(end.reason);
    }
    if (failures.length > 0) throw failures[0];
  }
}
