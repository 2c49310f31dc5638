import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';

/** A step of which rule, over how many parameters, and what of it counts: see peers/contestants.py. */
export interface DenseProblem {
  readonly rule: 'momentum' | 'adam';
  readonly mode: 'alone' | 'bare' | 'received';
  readonly size: number;
}

/** A step of which rule, over rows of a table, another set of them in each call: see peers/rows.py. */
export interface RowsProblem {
  readonly rule: 'sgd' | 'adagrad' | 'adam';
  readonly mode: 'rows';
  readonly dims: readonly [number, number];
  readonly rows: readonly (readonly number[])[];
}

export type Problem = DenseProblem | RowsProblem;

/** What a Python has to offer. */
export interface PeersDescription {
  readonly versions: Readonly<Record<string, string>>;
  readonly cores: number;
  readonly contestants: readonly string[];
  /** Contestants that cannot take part, each with its reason. */
  readonly missing: Readonly<Record<string, string>>;
}

/** Contestants that can be called, as they are after some steps. */
export interface Prepared {
  readonly steps: number;
  /** `way`: how gradients are taken. `weights`: the first few. */
  readonly ready: Readonly<Record<string, { readonly way: string; readonly weights: readonly number[] }>>;
  readonly failed: Readonly<Record<string, string>>;
}

/** Optimizers of other libraries, in a process of their own that waits while it is not asked. */
export interface Peers {
  describe(): Promise<PeersDescription>;
  /** Replaces what was prepared before. */
  prepare(problem: Problem): Promise<Prepared>;
  /** Nanoseconds a call. */
  lap(contestant: string, calls: number): Promise<number>;
  close(): Promise<void>;
}

const script = fileURLToPath(new URL('./peers/steps.py', import.meta.url));
const howTo = 'bench/peers/README.md tells how to install them';
// Seven contestants of 25 M parameters are compiled and tried within one command.
const commandTimeoutMs = 300_000;
const keptOfStderr = 500;

/** Starts a Python, `$PYTHON` or else `python3`, or tells why its libraries cannot be measured. */
export async function openPeers(python = process.env.PYTHON || 'python3'): Promise<Peers | { readonly reason: string }> {
  const worker = new Worker(python);
  const peers: Peers = {
    describe: () => worker.ask<PeersDescription>({ command: 'describe' }),
    prepare: (problem) => worker.ask<Prepared>({ command: 'prepare', ...problem }),
    lap: async (contestant, calls) => (await worker.ask<{ ns: number }>({ command: 'lap', contestant, calls })).ns,
    close: () => worker.close(),
  };
  try {
    const { contestants, missing } = await peers.describe();
    if (contestants.length > 0) return peers;
    await peers.close();
    return { reason: `${python}: ${[...new Set(Object.values(missing))].join('; ')}; ${howTo}` };
  } catch (error) {
    await peers.close();
    return { reason: `${python}: ${(error as Error).message}; ${howTo}` };
  }
}

/** A process that answers one JSON line with another, in order. It ends with this one. */
class Worker {
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #ended: Promise<void>;
  readonly #waiting: PromiseWithResolvers<string>[] = [];
  readonly #kill = (): void => void this.#child.kill('SIGKILL');
  #failure: Error | null = null;
  #stderr = '';

  constructor(python: string) {
    this.#child = spawn(python, ['-B', script], { stdio: ['pipe', 'pipe', 'pipe'] });
    process.once('exit', this.#kill);
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-keptOfStderr);
    });
    // A process that is gone says so by its exit.
    this.#child.stdin.on('error', () => {});
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#waiting.shift()?.resolve(line));
    this.#ended = new Promise((resolve) => {
      this.#child.once('error', (error) => this.#fail(error, resolve));
      this.#child.once('close', (code, signal) => {
        this.#fail(new Error(`Expected an answer, but the process ended (${signal ?? code}). ${this.#stderr}`.trim()), resolve);
      });
    });
  }

  async ask<Answer>(command: Readonly<Record<string, unknown>>): Promise<Answer> {
    if (this.#failure) throw this.#failure;
    const waiting = Promise.withResolvers<string>();
    this.#waiting.push(waiting);
    this.#child.stdin.write(`${JSON.stringify(command)}\n`);
    const timer = setTimeout(this.#kill, commandTimeoutMs);
    const answer = JSON.parse(await waiting.promise.finally(() => clearTimeout(timer)));
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer;
  }

  /** Lets what is under way finish. */
  async close(): Promise<void> {
    this.#child.stdin.end();
    await this.#ended;
  }

  #fail(error: Error, ended: () => void): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure);
    process.off('exit', this.#kill);
    ended();
  }
}
