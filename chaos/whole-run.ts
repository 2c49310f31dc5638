import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RecordedLog } from './recorded-log.ts';
import { misfits } from './state.ts';
import { Training, training } from './training.ts';

export interface WholeRun {
  /** The state that it came to. */
  readonly state: Uint8Array;
  /** Milliseconds from its start to its first step, and from there to its end. */
  readonly startMs: number;
  readonly trainingMs: number;
}

/** Addresses of brokers, or the file of an embedded log. */
export type Place = string | { readonly log: string };

/** Where a run reads, and what it writes at its end. */
export function runArguments(place: Place, topic: string, state: string): string[] {
  const from = typeof place === 'string' ? ['--brokers', place] : ['--log', place.log];
  return [...training, ...from, '--topic', topic, '--save-state', state];
}

/** Trains to the end of a topic without an interruption, and checks that what had to count did. */
export async function wholeRun(place: Place, topic: string, log: RecordedLog, folder: string): Promise<WholeRun> {
  const file = join(folder, 'whole.safetensors');
  const checkpoints = ['--checkpoints', join(folder, `whole-${topic}`), '--checkpoint-every', '1000000'];
  const start = performance.now();
  const run = Training.rxgrad([...runArguments(place, topic, file), '--until-end', ...checkpoints]);
  await run.says('goes on from version');
  const startMs = performance.now() - start;
  await run.finished();
  const trainingMs = performance.now() - start - startMs;
  const state = await readFile(file);
  const problems = misfits(state, log);
  if (problems.length > 0) throw new Error(`an uninterrupted run came to ${problems.join(', ')}`);
  return { state, startMs, trainingMs };
}
