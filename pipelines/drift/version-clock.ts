import type { Observer } from 'rxjs';
import type { WeightsUpdate } from '../../src/index.ts';

/** Tells the time in versions of the weights, and waits for one. */
export class VersionClock implements Observer<WeightsUpdate> {
  #version = 0;
  #failure: unknown;
  #waiters: { version: number; resolve: () => void; reject: (error: unknown) => void }[] = [];

  next({ version }: WeightsUpdate): void {
    this.#version = version;
    const due = this.#waiters.filter((waiter) => waiter.version <= version);
    this.#waiters = this.#waiters.filter((waiter) => waiter.version > version);
    for (const { resolve } of due) resolve();
  }

  error(error: unknown): void {
    this.#failure = error;
    for (const { reject } of this.#waiters) reject(error);
    this.#waiters = [];
  }

  complete(): void {}

  /** Resolves once a version is there; rejects when learning failed. */
  async reaches(version: number): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (version <= this.#version) return;
    await new Promise<void>((resolve, reject) => this.#waiters.push({ version, resolve, reject }));
  }
}
