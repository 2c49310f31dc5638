import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { leash } from './leash.ts';
import { quietClient, until } from './wait-until-ready.ts';

const run = promisify(execFile);

/** A broker of the tests is there for a minute: what Java would spend on code that runs for hours is half of its start. */
export const quickStart = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC'];

export interface ProcessBrokerOptions {
  /** The number of this node, from 1 on. */
  readonly id: number;
  /** `host:port` for clients; stays the same over restarts. */
  readonly address: string;
  /** Where its settings, its log and its data lie: a folder of this node in a folder of its cluster. */
  readonly folder: string;
  /** Folder with Kafka's jars, see `docker/jars.sh`. */
  readonly jars: string;
  /** Java's options, as `-Xmx1g`. */
  readonly java: readonly string[];
  readonly properties: Readonly<Record<string, string>>;
  /** Users that log in by SCRAM, as Kafka's StorageTool takes them. */
  readonly scramUsers: readonly string[];
}

/** One node of Apache Kafka (broker and controller) as a process of this machine. It never outlives the process that started it. */
export class ProcessBroker {
  readonly id: number;
  readonly address: string;
  readonly #options: ProcessBrokerOptions;
  #process: ChildProcess | null = null;
  #leash: ChildProcess | null = null;

  constructor(options: ProcessBrokerOptions) {
    this.id = options.id;
    this.address = options.address;
    this.#options = options;
  }

  get running(): boolean {
    return this.#process !== null && this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** Writes the settings and formats the empty data folder; once, before the first start. */
  async format(clusterId: string): Promise<void> {
    const { folder, properties, scramUsers } = this.#options;
    await mkdir(folder, { recursive: true });
    const lines = Object.entries({ ...properties, 'log.dirs': join(folder, 'data') }).map(
      ([name, value]) => `${name}=${value}\n`,
    );
    await writeFile(this.#settings, lines.join(''));
    const users = scramUsers.flatMap((user) => ['--add-scram', user]);
    await this.command('kafka.tools.StorageTool', 'format', '--cluster-id', clusterId, '--config', this.#settings, ...users);
  }

  /** Runs one of Kafka's own programs to its end. */
  async command(program: string, ...args: string[]): Promise<void> {
    await run('java', [...quickStart, ...this.#java(program, ...args)]);
  }

  /** Starts the process; resolves when the cluster lists this broker as alive. */
  async start(): Promise<void> {
    if (this.running) throw new Error(`Broker ${this.id} runs already`);
    const log = await open(this.#log, 'a');
    const child = spawn('java', [...this.#options.java, ...this.#java('kafka.Kafka', this.#settings)], {
      // A group of its own: Ctrl-C must not reach it before it reaches the tests.
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
    });
    this.#process = child;
    await once(child, 'spawn').finally(() => log.close());
    this.#leash = leash('kill -9 "$1"; rm -rf "$2"; rmdir "$(dirname "$2")"', String(child.pid), this.#options.folder);

    const exited = () => (this.running ? null : `broker ${this.id} ended (exit code ${child.exitCode ?? child.signalCode})`);
    try {
      await until(() => this.#listed(), 60_000, exited);
    } catch (error) {
      const tail = (await readFile(this.#log, 'utf8')).trim().split('\n').slice(-12).join('\n');
      await this.kill();
      throw new Error(`Kafka does not start as a process. Its log ends:\n${tail}`, { cause: error });
    }
  }

  /** Ends it as a crash would (`kill -9`): nothing is flushed, nobody is told. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Asks it to hand its leadership over and to end. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  /** Lets it hang, as on a machine that is out of memory: its connections stay open, and nothing answers. */
  hang(): void {
    this.#process?.kill('SIGSTOP');
  }

  /** Lets it go on behind {@link hang}. */
  goOn(): void {
    this.#process?.kill('SIGCONT');
  }

  /** Kills it if it runs, and starts it again with the same ports and data. */
  async restart(): Promise<void> {
    await this.kill();
    await this.start();
  }

  get #settings(): string {
    return join(this.#options.folder, 'server.properties');
  }

  get #log(): string {
    return join(this.#options.folder, 'broker.log');
  }

  #java(...rest: string[]): string[] {
    return ['-cp', join(this.#options.jars, '*'), '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn', ...rest];
  }

  async #listed(): Promise<void> {
    const admin = quietClient(this.address).admin();
    try {
      await admin.connect();
      const { brokers } = await admin.describeCluster();
      if (!brokers.some(({ nodeId }) => nodeId === this.id)) throw new Error(`the cluster does not list broker ${this.id} yet`);
    } finally {
      await admin.disconnect();
    }
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    if (child && this.running) {
      const exit = once(child, 'exit');
      child.kill(signal);
      await exit;
    }
    this.#leash?.kill('SIGKILL');
    this.#leash = null;
    this.#process = null;
  }
}
