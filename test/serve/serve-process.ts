import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, type TestContext } from 'vitest';
import { eventually } from '../eventually.ts';

const main = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url));
const flags = ['--disable-warning=ExperimentalWarning', '--disable-warning=TimeoutNegativeWarning'];

export interface Line {
  readonly msg: string;
  readonly level: number;
  readonly [fact: string]: unknown;
}

/** `rxgrad serve` in a process of its own, on ports that are free. */
export class ServeProcess {
  readonly lines: Line[] = [];
  stderr = '';
  readonly #child: ChildProcess;

  constructor(context: TestContext, args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
    this.#child = spawn(process.execPath, [...flags, main, 'serve', '--port', '0', '--grpc-port', '0', ...args], {
      env: { PATH: process.env.PATH ?? '', ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    context.onTestFinished(() => void this.#child.kill('SIGKILL'));
    createInterface(this.#child.stdout!).on('line', (line) => this.lines.push(JSON.parse(line)));
    this.#child.stderr!.on('data', (bytes) => {
      this.stderr += bytes;
    });
  }

  /** Waits for a line of the log that says this. */
  async said(msg: string, facts: object = {}): Promise<Line> {
    const wanted = expect.objectContaining({ msg, ...facts });
    await eventually(() => expect(this.lines, this.stderr).toContainEqual(wanted));
    return this.lines.findLast((line) => wanted.asymmetricMatch(line))!;
  }

  async http(): Promise<string> {
    return String((await this.said('serving')).http);
  }

  async grpcPort(): Promise<number> {
    return Number(
      String((await this.said('serving')).grpc)
        .split(':')
        .at(-1),
    );
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Its exit code, or the signal that ended it. */
  async ended(): Promise<number | string> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'close');
    return this.#child.exitCode ?? this.#child.signalCode!;
  }
}

/** Asks for a prediction of the linear model: [1, 1, 1, 1]. */
export async function predict(url: string, model = 'linear', signal?: AbortSignal) {
  const response = await fetch(`${url}/v2/models/${model}/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 4], data: [1, 1, 1, 1] }] }),
    ...(signal ? { signal } : {}),
  });
  const body = (await response.json()) as {
    readonly error?: string;
    readonly model_version?: string;
    readonly outputs?: readonly { readonly data: readonly number[] }[];
  };
  return { status: response.status, ...body };
}
