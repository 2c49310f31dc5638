import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { leash } from '../test/broker/leash.ts';

const root = fileURLToPath(new URL('../', import.meta.url));
const flags = ['--disable-warning=ExperimentalWarning', '--disable-warning=TimeoutNegativeWarning'];

/** The optimizer and the model of every run. */
export const training = [
  ...['run', 'momentum', '--model', `${root}test/models/mlp.onnx`, '--lr', '0.01', '--nesterov', '--clip-norm', '2'],
  ...['--step-size', '3', '--gamma', '0.9', '--weight-decay', '0.001'],
];

export interface TrainingOptions {
  /** Bytes that a file may have, in blocks of 512. Default: no limit. */
  readonly fileBlocks?: number;
  /** Further flags of Node.js. */
  readonly nodeFlags?: readonly string[];
  /** A command that runs it in other surroundings. */
  readonly within?: readonly string[];
}

/** `rxgrad` as it was built, or another program, as a process of its own. It never outlives this one. */
export class Training {
  readonly #child: ChildProcess;
  readonly #leash: ChildProcess;
  readonly #exited: Promise<unknown>;
  #said = '';
  #told = Promise.withResolvers<void>();

  constructor(program: string, args: readonly string[], { fileBlocks, nodeFlags = [], within = [] }: TrainingOptions = {}) {
    const command = [...within, process.execPath, ...flags, ...nodeFlags, program, ...args];
    const limited =
      fileBlocks === undefined ? command : ['sh', '-c', `ulimit -f ${fileBlocks}; exec "$@"`, 'limited', ...command];
    this.#child = spawn(limited[0]!, limited.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#leash = leash('kill -9 "$1"', String(this.#child.pid));
    this.#exited = once(this.#child, 'close').finally(() => {
      this.#leash.kill('SIGKILL');
      this.#hear('');
    });
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) stream.on('data', (text) => this.#hear(String(text)));
  }

  /** Runs the command line. */
  static rxgrad(args: readonly string[], options: TrainingOptions = {}): Training {
    return new Training(`${root}dist/src/cli/main.js`, args, options);
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** All that it has written so far, errors included. */
  get said(): string {
    return this.#said;
  }

  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Whether it ended by itself, with an error. */
  get failed(): boolean {
    return this.#child.exitCode !== null && this.#child.exitCode !== 0;
  }

  /** Resolves when it has written this; to false when it ends without. */
  async says(text: string): Promise<boolean> {
    while (!this.#said.includes(text)) {
      if (this.ended) return false;
      await this.#told.promise;
    }
    return true;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends it as a crash would. Resolves to false where it had ended by itself. */
  async kill(): Promise<boolean> {
    this.#child.kill('SIGKILL');
    await this.#exited;
    return this.#child.signalCode === 'SIGKILL';
  }

  /** Waits for its end. What went wrong with it is an error. */
  async finished(): Promise<string> {
    await this.#exited;
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== 0) throw new Error(`the training ended (${exitCode ?? signalCode}):\n${this.#said.trim().slice(-2000)}`);
    return this.#said;
  }

  /** Waits for its end, in whatever way. */
  async exit(): Promise<number | NodeJS.Signals> {
    await this.#exited;
    return this.#child.exitCode ?? this.#child.signalCode!;
  }

  #hear(text: string): void {
    this.#said += text;
    this.#told.resolve();
    this.#told = Promise.withResolvers();
  }
}
