import type { Worker } from 'node:worker_threads';

/** After which a waiting thread looks again: a wake that got lost on its way must hold nothing for ever. */
const LOOK_AGAIN_MS = 500;

// TypeScript from the sources, JavaScript from what is built.
const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';

/** The file of a thread, beside the one that starts it. */
export function threadFile(beside: string, name: string): URL {
  return new URL(`${name}.${extension}`, beside);
}

/**
 * Waits, without blocking the thread, until another thread wakes those who wait at a word, if it still holds a value; for some time
 * at most, so that whoever waits has to look again. Tells whether it was not for the time alone.
 */
export async function wokenAt(words: Int32Array, index: number, value: number): Promise<boolean> {
  const wait = Atomics.waitAsync(words, index, value, LOOK_AGAIN_MS);
  return !wait.async || (await wait.value) !== 'timed-out';
}

/** The threads that this one has started and that have ended, by their ids, which a process never uses again. */
const ended = new Set<number>();
let follows = false;

/** Follows the threads that this one starts from now on, for {@link endedThreads}. */
export function followThreads(): void {
  if (follows) return;
  follows = true;
  process.on('worker', (worker: Worker) => {
    const { threadId } = worker;
    worker.once('exit', () => ended.add(threadId));
  });
}

export function endedThreads(): ReadonlySet<number> {
  return ended;
}
