import type { RxgradError } from '../../errors.ts';
import type { Slot } from '../../params/left-right.ts';
import type { Feeds, Runner, RunResult } from '../runner.ts';

/** Several runners as one. Takes more runs than it has capacity for: they wait in their order. */
export class RunnerGroup implements Runner {
  onCapacity: (() => void) | null = null;
  readonly #members: readonly { readonly runner: Runner; running: number }[];
  readonly #waiting: (() => void)[] = [];
  #next = 0;

  constructor(runners: readonly Runner[]) {
    this.#members = runners.map((runner) => ({ runner, running: 0 }));
    for (const runner of runners) {
      runner.onCapacity = () => {
        this.#wake();
        this.onCapacity?.();
      };
    }
  }

  get capacity(): number {
    return this.#members.reduce((sum, { runner }) => sum + runner.capacity, 0);
  }

  get failure(): RxgradError | null {
    return this.#members.every(({ runner }) => runner.failure !== null) ? this.#members[0]!.runner.failure : null;
  }

  async run(feeds: Feeds, slot: Slot | null): Promise<RunResult> {
    let member = this.#free();
    while (!member) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
      if (this.failure) throw this.failure;
      member = this.#free();
    }
    member.running++;
    try {
      return await member.runner.run(feeds, slot);
    } finally {
      member.running--;
      this.#wake();
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#members.map(({ runner }) => runner.close()));
  }

  /** Whoever has the least to do; of several, each in turn. */
  #free(): { readonly runner: Runner; running: number } | null {
    const members = this.#members;
    let free = null;
    for (let i = 0; i < members.length; i++) {
      const member = members[(this.#next + i) % members.length]!;
      if (member.running < member.runner.capacity && member.running < (free?.running ?? Infinity)) free = member;
    }
    this.#next = (this.#next + 1) % members.length;
    return free;
  }

  #wake(): void {
    if (this.failure) for (const wake of this.#waiting.splice(0)) wake();
    else this.#waiting.shift()?.();
  }
}
