import type { Slot } from '../params/left-right.ts';
import type { WeightsReader } from '../params/weights-reader.ts';
import type { LocalRunner } from './local-runner.ts';
import type { Feeds, RunResult } from './runner.ts';
import { HELD } from './thread-link.ts';

/** Runs a model in a thread, so that whoever finds the thread dead can let go of the weights that it read: see {@link letGo}. */
export async function liveRun(
  runner: LocalRunner,
  reader: WeightsReader,
  words: Int32Array,
  feeds: Feeds,
  asked: Slot | null,
): Promise<RunResult> {
  if (asked !== null) return runner.run(feeds, asked);
  const slot = reader.acquire();
  Atomics.store(words, HELD, slot + 1);
  try {
    return await runner.run(feeds, slot);
  } finally {
    Atomics.store(words, HELD, 0);
    reader.release(slot);
  }
}
