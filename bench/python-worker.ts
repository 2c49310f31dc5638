import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';

/** The interpreter that peers run in. */
export const python = process.env.PYTHON || 'python3';
export const howToInstall = 'bench/peers/README.md tells how to install them';
// Seven contestants of 25 M parameters are compiled and tried within one command.
const commandTimeoutMs = 300_000;
const keptOfStderr = 500;

/** A process that answers one JSON line with another, in order. It ends with this one. */
export class PythonWorker {
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #ended: Promise<void>;
  readonly #waiting: PromiseWithResolvers<string>[] = [];
  readonly #kill = (): void => void this.#child.kill('SIGKILL');
  #failure: Error | null = null;
  #stderr = '';

  /** `script`: a file of bench/peers. */
  constructor(interpreter: string, script: string) {
    const path = fileURLToPath(new URL(`./peers/${script}`, import.meta.url));
    this.#child = spawn(interpreter, ['-B', path], { stdio: ['pipe', 'pipe', 'pipe'] });
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
