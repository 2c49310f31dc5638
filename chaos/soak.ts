import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { residentBytesOf } from '../bench/server-process.ts';
import { embeddedLog, encodeEvent, gradientBatch, type Transport } from '../src/index.ts';
import type { Ground, Outcome } from './ground.ts';
import type { Random } from './random.ts';
import { dims } from './recorded-log.ts';
import { Training, training } from './training.ts';

export interface SoakCounts {
  readonly minutes: number;
  /** Between two looks at the memory. */
  readonly everyMs: number;
  /** MiB a minute by which no process may grow, once the first fifth of the time is over. */
  readonly mostGrowth: number;
}

export const full: SoakCounts = { minutes: 10, everyMs: 10_000, mostGrowth: 1 };

const BATCHES_EACH_TURN = 10;
const TURN_MS = 50;
const CLIENTS = 8;
const model = fileURLToPath(new URL('../test/models/mlp.onnx', import.meta.url));
const nodeFlags = ['--expose-gc', '--import', new URL('./collect-on-signal.ts', import.meta.url).href];
const body = JSON.stringify({ inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 6], data: [1, 2, 3, 4, 5, 6] }] });

/**
 * Trains, publishes weights, follows them with a replica that swaps them, and asks that for predictions over HTTP without a pause; and
 * looks at the memory of each process after a collection. Fails where one goes on to grow, a prediction fails, or versions go back.
 */
export default async function soak(ground: Ground, counts: SoakCounts = full): Promise<Outcome> {
  const { random, folder, say } = ground;
  const minutes = ground.minutes || counts.minutes;
  const { everyMs, mostGrowth } = counts;
  const log = join(folder, 'log.db');
  const transport = embeddedLog(log);
  await transport.createTopic('gradients');
  await transport.createTopic('weights', { compacted: true });
  const checkpoints = ['--checkpoints', join(folder, 'checkpoints'), '--checkpoint-every-ms', '2000'];
  const publishing = ['--publish-weights', 'weights', '--publish-every', '20'];
  const place = ['--log', log];
  const trainer = Training.rxgrad([...training, ...place, '--topic', 'gradients', ...checkpoints, ...publishing], { nodeFlags });
  const serving = ['--weights-from', 'weights', '--weights-model', 'model', '--port', '0', '--no-grpc', '--name', 'm'];
  const replica = Training.rxgrad(['serve', model, ...place, ...serving], { nodeFlags });
  const processes = { trainer, replica };
  const ending = new AbortController();
  const work: Promise<void>[] = [];
  try {
    work.push(produce(transport, random, ending.signal));
    await began('trainer', trainer, 'goes on from version');
    await began('replica', replica, '"msg":"ready"');
    const url = /"http":"([^"]+)"/.exec(replica.said)![1]!;
    const clients = Array.from({ length: CLIENTS }, () => new Client());
    work.push(...clients.map((client) => client.ask(`${url}/v2/models/m/infer`, ending.signal)));
    const samples: Record<string, Sample[]> = { trainer: [], replica: [] };
    const start = performance.now();
    for (let at = everyMs; at <= 60_000 * minutes; at += everyMs) {
      await delay(Math.max(0, start + at - performance.now()));
      for (const [name, one] of Object.entries(processes)) {
        if (one.ended) throw new Error(`the ${name} ended:\n${one.said.slice(-2000)}`);
        samples[name]!.push({ minutes: at / 60_000, mib: await collectedMib(one) });
      }
      const now = Object.entries(samples).map(([name, of]) => `${name} ${of.at(-1)!.mib.toFixed(0)} MiB`);
      say(`soak: ${(at / 1000).toFixed(0)} s: ${now.join(', ')}, version ${Math.max(...clients.map(({ version }) => version))}`);
    }
    const problems = clients.flatMap((client) => client.problems).slice(0, 10);
    const results: Record<string, number | string> = {};
    for (const [name, all] of Object.entries(samples)) {
      const late = all.filter((sample) => sample.minutes > minutes / 5);
      const growth = slopeOf(late);
      const sizes = late.map(({ mib }) => mib);
      results[`${name}: MiB`] = `${Math.min(...sizes).toFixed(0)} to ${Math.max(...sizes).toFixed(0)}`;
      results[`${name}: MiB a minute`] = growth.toFixed(2);
      if (growth > mostGrowth) problems.push(`the ${name} grows by ${growth.toFixed(2)} MiB a minute, above ${mostGrowth}`);
    }
    results.predictions = clients.reduce((sum, { answered }) => sum + answered, 0);
    results['swaps seen'] = Math.max(...clients.map(({ swaps }) => swaps));
    results.version = Math.max(...clients.map(({ version }) => version));
    if (results.predictions === 0 || results['swaps seen'] === 0) problems.push('nothing was predicted, or swapped');
    return { counts: results, problems };
  } finally {
    ending.abort();
    await Promise.all([...work, trainer.kill(), replica.kill()]);
    await transport.close();
  }
}

async function began(name: string, process: Training, text: string): Promise<void> {
  if (!(await process.says(text))) throw new Error(`the ${name} ended:\n${process.said.slice(-2000)}`);
}

interface Sample {
  readonly minutes: number;
  readonly mib: number;
}

/** One that asks again and again. */
class Client {
  answered = 0;
  swaps = 0;
  version = -1;
  readonly problems: string[] = [];

  async ask(url: string, signal: AbortSignal): Promise<void> {
    const headers = { 'content-type': 'application/json' };
    while (!signal.aborted) {
      try {
        const response = await fetch(url, { method: 'POST', body, headers, signal });
        const answer = (await response.json()) as { model_version?: string; error?: string };
        this.#take(response.status, Number(answer.model_version), answer.error);
      } catch (error) {
        if (!signal.aborted) this.problems.push(`a prediction failed: ${(error as Error).message}`);
      }
      await delay(1);
    }
  }

  #take(status: number, version: number, error: string | undefined): void {
    if (status !== 200) this.problems.push(`a prediction failed with ${status}: ${error}`);
    else if (version < this.version) this.problems.push(`version ${version} came after ${this.version}`);
    else {
      this.answered += 1;
      if (version > this.version) this.swaps += 1;
      this.version = version;
    }
  }
}

/** Sends batches at a steady pace. */
async function produce(transport: Transport, random: Random, signal: AbortSignal): Promise<void> {
  for (let sequence = 0; !signal.aborted; await delay(TURN_MS)) {
    const records = Array.from({ length: BATCHES_EACH_TURN }, () => {
      const gradients = Object.fromEntries(
        Object.entries(dims).map(([name, shape]) => {
          const length = shape.reduce((size, dim) => size * dim, 1);
          return [name, { dims: shape, data: Float32Array.from({ length }, () => random.element()) }];
        }),
      );
      return encodeEvent(gradientBatch({ gradients, worker: 'soak', sequence: sequence++, batchSize: 32 }));
    });
    await transport.produce('gradients', records);
  }
}

/** What a process holds after a collection. */
async function collectedMib(process: Training): Promise<number> {
  process.signal('SIGUSR2');
  await delay(1000);
  return residentBytesOf(process.pid) / 2 ** 20;
}

/** MiB a minute, by least squares. */
function slopeOf(samples: readonly Sample[]): number {
  const mean = (of: (sample: Sample) => number): number => samples.reduce((sum, one) => sum + of(one), 0) / samples.length;
  const [x, y] = [mean(({ minutes }) => minutes), mean(({ mib }) => mib)];
  const spread = mean(({ minutes }) => (minutes - x) ** 2);
  return spread === 0 ? 0 : mean(({ minutes, mib }) => (minutes - x) * (mib - y)) / spread;
}
