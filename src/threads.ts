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
 * at most, so that whoever waits has to look again.
 */
export async function wokenAt(words: Int32Array, index: number, value: number, mostMs = LOOK_AGAIN_MS): Promise<void> {
  const wait = Atomics.waitAsync(words, index, value, Math.min(mostMs, LOOK_AGAIN_MS));
  if (wait.async) await wait.value;
}
