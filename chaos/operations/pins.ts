import { setTimeout as delay } from 'node:timers/promises';
import { KafkaCheckpoints, type Transport } from '../../src/index.ts';
import type { Role } from './world.ts';

const everyMs = 700;

/** Pins the newest checkpoint of the trainer now and then, as another process would: what it was told to be pinned has to stay. */
export class Pins implements Role {
  readonly name = 'pins';
  readonly #store: KafkaCheckpoints;
  readonly #pinned = new Set<number>();
  readonly #pinning: Promise<void>;
  #over = false;

  constructor(transport: Transport, topic: string) {
    this.#store = new KafkaCheckpoints(transport, { topic });
    this.#pinning = this.#pin();
  }

  get count(): number {
    return this.#pinned.size;
  }

  async finished(): Promise<string[]> {
    this.#over = true;
    await this.#pinning;
    return [];
  }

  async end(): Promise<string[]> {
    const entries = await this.#store.list();
    const problems: string[] = [];
    for (const version of this.#pinned) {
      if (!entries.some((entry) => entry.version === version && entry.pinned)) problems.push(`pinned version ${version} is gone`);
      else await this.#store.read(version).catch((error: Error) => problems.push(error.message));
    }
    return problems.map((problem) => `pins: ${problem}`);
  }

  async #pin(): Promise<void> {
    for (; !this.#over; await delay(everyMs)) {
      try {
        const [newest] = await this.#store.list();
        if (!newest || newest.pinned) continue;
        await this.#store.pin(newest.version, true);
        this.#pinned.add(newest.version);
      } catch {
        // It was removed meanwhile, or no broker could be reached: nothing was told to be pinned.
      }
    }
  }
}
