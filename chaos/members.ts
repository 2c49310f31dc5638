import { randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { lastValueFrom, pipe } from 'rxjs';
import { clipByGlobalNorm, fromTransport, momentumNesterov, Parameters, stepLR, type Transport } from '../src/index.ts';
import type { Random } from './random.ts';
import { dims, type RecordedLog, recordedLog } from './recorded-log.ts';
import { differences, misfits } from './state.ts';
import { Training } from './training.ts';

/** What a member is told. */
export interface MemberSettings {
  readonly brokers: string;
  readonly topic: string;
  readonly group: string;
  /** Topic of the checkpoints. */
  readonly checkpoints: string;
  /** Where final states go. */
  readonly folder: string;
  /** Batches that count, by partition. */
  readonly batches: readonly number[];
  readonly checkpointEvery: number;
  /** Milliseconds between two checkpoints. Default: no limit. */
  readonly checkpointEveryMs?: number;
}

/** The weights that every partition's model begins with: other ones for each. */
export function initialParameters(partition: number): Parameters {
  const tensors = Object.entries(dims).map(([name, shape]) => {
    const length = shape.reduce((size: number, dim) => size * dim, 1);
    return [name, { dims: shape, data: Float32Array.from({ length }, (_, i) => Math.fround(0.01 * (i + partition))) }] as const;
  });
  return Parameters.create(Object.fromEntries(tensors));
}

/** What every partition is trained with. */
export const rule = (params: Parameters) =>
  pipe(clipByGlobalNorm(2), momentumNesterov(params, { lr: stepLR({ baseLr: 0.01, stepSize: 3, gamma: 0.9 }) }));

const perAppend = 20;
const program = fileURLToPath(new URL('./member.ts', import.meta.url));

/** A topic with a model of its own in each partition, and a group of processes that train them. */
export class Members {
  readonly all: Training[] = [];
  readonly #transport: Transport;
  readonly #settings: MemberSettings;
  readonly #logs: readonly RecordedLog[];

  private constructor(transport: Transport, settings: MemberSettings, logs: readonly RecordedLog[]) {
    this.#transport = transport;
    this.#settings = settings;
    this.#logs = logs;
  }

  static async create(
    transport: Transport,
    random: Random,
    {
      partitions,
      ...settings
    }: Omit<MemberSettings, 'topic' | 'group' | 'checkpoints' | 'batches'> & {
      readonly partitions: readonly number[];
    },
  ): Promise<Members> {
    const logs = partitions.map((batches) => recordedLog(random.below(2 ** 31), batches));
    const topic = `members-${randomUUID()}`;
    await transport.createTopic(topic, { partitions: logs.length });
    const names = { topic, group: `group-of-${topic}`, checkpoints: `checkpoints-of-${topic}` };
    return new Members(transport, { ...settings, ...names, batches: partitions }, logs);
  }

  /** The topic of the checkpoints: of partition N, those of model "model-N". */
  get checkpoints(): string {
    return this.#settings.checkpoints;
  }

  get running(): Training[] {
    return this.all.filter(({ ended }) => !ended);
  }

  start(): Training {
    const member = new Training(program, [JSON.stringify(this.#settings)]);
    this.all.push(member);
    return member;
  }

  /** Appends this part of all logs, as evenly over so many milliseconds as the broker can. */
  async produce(fromShare: number, toShare: number, overMs: number): Promise<void> {
    const parts = this.#logs.map(({ records }) =>
      records.slice(Math.floor(fromShare * records.length), Math.floor(toShare * records.length)),
    );
    const appends = Math.ceil(Math.max(...parts.map(({ length }) => length)) / perAppend);
    for (let i = 0; i < appends; i++) {
      const records = parts.flatMap((part, partition) =>
        part.slice(i * perAppend, (i + 1) * perAppend).map((record) => ({ ...record, partition })),
      );
      await this.#transport.produce(this.#settings.topic, records);
      await delay(overMs / appends);
    }
  }

  /** Waits until all partitions were brought to their end. Says what is missing where it takes longer. */
  async finished(timeoutMs: number): Promise<string[]> {
    for (const endMs = Date.now() + timeoutMs; ; ) {
      const states = await this.#states();
      const missing = this.#logs.flatMap((_, partition) =>
        states.some((state) => state.partition === partition) ? [] : [partition],
      );
      if (missing.length === 0) return [];
      if (Date.now() > endMs) return missing.map((partition) => `partition ${partition} did not come to its end`);
      await delay(100);
    }
  }

  /** Ends all, and says what went wrong with them, and how the states that they came to differ from uninterrupted ones. */
  async end(): Promise<string[]> {
    const failed = this.all.filter((member) => member.failed);
    for (const member of this.running) member.signal('SIGTERM');
    // Longer than a transport goes on asking brokers that do not answer.
    const late = new Promise<'late'>((resolve) => setTimeout(resolve, 150_000, 'late').unref());
    const stuck = await Promise.all(
      this.running.map(async (member) => ((await Promise.race([member.exit(), late])) === 'late' ? [member] : [])),
    );
    await Promise.all(stuck.flat().map((member) => member.kill()));
    const wholes = await Promise.all(this.#logs.map((_, partition) => this.#whole(partition)));
    const states = await this.#states();
    return [
      ...failed.map(({ said }) => `a member failed:\n${said.slice(-2000)}`),
      ...stuck.flat().map(({ said }) => `a member did not end:\n${said.slice(-2000)}`),
      ...states.flatMap(({ partition, state }) =>
        [...differences(state, wholes[partition]!), ...misfits(state, this.#logs[partition]!)].map(
          (problem) => `partition ${partition}: ${problem}`,
        ),
      ),
    ];
  }

  async #states() {
    const { folder } = this.#settings;
    const names = (await readdir(folder)).filter((name) => name.startsWith('state-') && name.endsWith('.safetensors'));
    return Promise.all(
      names.map(async (name) => ({ partition: Number(name.split('-')[1]), state: await readFile(join(folder, name)) })),
    );
  }

  async #whole(partition: number): Promise<Uint8Array> {
    const params = initialParameters(partition);
    const events$ = fromTransport(this.#transport, {
      topic: this.#settings.topic,
      from: 'beginning',
      until: 'end',
      partitions: [partition],
    });
    await lastValueFrom(events$.pipe(rule(params)));
    return params.stateDict();
  }
}
