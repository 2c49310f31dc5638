import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { readLetters } from '../../src/cli/dead-letters/letters.ts';
import type { Transport } from '../../src/index.ts';
import type { RecordedLog } from '../recorded-log.ts';
import { differences, misfits } from '../state.ts';
import { Training } from '../training.ts';
import { runArguments, wholeRun } from '../whole-run.ts';
import type { ProcessRole } from './world.ts';

export interface TrainerTopics {
  readonly gradients: string;
  readonly checkpoints: string;
  readonly letters: string;
  readonly weights: string;
}

const perAppend = 20;
export const publishEvery = 20;

/** `rxgrad run` with checkpoints and dead letters in topics, which publishes its weights; started again when it was killed. */
export class Trainer implements ProcessRole {
  readonly name = 'trainer';
  readonly #all: Training[] = [];
  readonly #brokers: string;
  readonly #transport: Transport;
  readonly #topics: TrainerTopics;
  readonly #log: RecordedLog;
  readonly #folder: string;

  constructor(transport: Transport, brokers: string, topics: TrainerTopics, log: RecordedLog, folder: string) {
    this.#brokers = brokers;
    this.#transport = transport;
    this.#topics = topics;
    this.#log = log;
    this.#folder = folder;
    this.start();
  }

  get running(): Training[] {
    return this.#all.filter(({ ended }) => !ended);
  }

  start(): void {
    if (this.running.length > 0) return;
    const { checkpoints, letters, weights } = this.#topics;
    this.#all.push(
      Training.rxgrad([
        ...this.#arguments(this.#file),
        ...['--checkpoint-topic', checkpoints, '--checkpoint-writer', checkpoints, '--checkpoint-every', '50'],
        ...['--dead-letters', letters, '--publish-weights', weights, '--publish-every', String(publishEvery)],
      ]),
    );
  }

  /** Appends the log, as evenly over so many milliseconds as the brokers can. */
  async produce(overMs: number): Promise<void> {
    const { records } = this.#log;
    const appends = Math.ceil(records.length / perAppend);
    for (let i = 0; i < appends; i++) {
      await this.#transport.produce(this.#topics.gradients, records.slice(i * perAppend, (i + 1) * perAppend));
      await delay(overMs / appends);
    }
  }

  async finished(timeoutMs: number): Promise<string[]> {
    const end = `version ${this.#log.batches} `;
    for (const endMs = Date.now() + timeoutMs; Date.now() < endMs; await delay(100)) {
      const [running] = this.running;
      if (running?.said.includes(end)) return [];
    }
    return [`the trainer did not come to version ${this.#log.batches}:\n${this.#all.at(-1)!.said.slice(-1500)}`];
  }

  async end(): Promise<string[]> {
    const failed = this.#all.filter((one) => one.failed).map(({ said }) => `the trainer failed:\n${said.slice(-2000)}`);
    const [running] = this.running;
    if (!running) return [...failed, 'no trainer runs'];
    running.signal('SIGTERM');
    await running.exit();
    const state = await readFile(this.#file).catch(() => null);
    if (!state) return [...failed, 'the trainer left no state'];
    const whole = await wholeRun(this.#brokers, this.#topics.gradients, this.#log, this.#folder);
    return [...failed, ...differences(state, whole.state), ...misfits(state, this.#log), ...(await this.#lettersMissing())].map(
      (problem) => `trainer: ${problem}`,
    );
  }

  /** A log's letters are those that an uninterrupted run writes. */
  async #lettersMissing(): Promise<string[]> {
    const letters = `${this.#topics.letters}-whole`;
    await this.#transport.createTopic(letters);
    await Training.rxgrad([
      ...this.#arguments(join(this.#folder, 'lettered.safetensors')),
      ...['--until-end', '--dead-letters', letters],
    ]).finished();
    const [got, expected] = await Promise.all(
      [this.#topics.letters, letters].map(async (topic) =>
        (await readLetters(this.#transport, topic)).map(({ id }) => id).toSorted(),
      ),
    );
    return String(got) === String(expected) ? [] : [`letters of ${got}, not of ${expected}`];
  }

  get #file(): string {
    return join(this.#folder, 'trained.safetensors');
  }

  #arguments(file: string): string[] {
    return runArguments(this.#brokers, this.#topics.gradients, file);
  }
}
