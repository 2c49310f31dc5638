import { BUSY, REQUESTED } from './thread-link.ts';

/** To be called by a thread before it has onnxruntime work: does not return where the process exits. See {@link stopAtExit}. */
export function beginWork(words: Int32Array): void {
  Atomics.store(words, BUSY, 1);
  for (let requested = Atomics.load(words, REQUESTED); requested < 0; requested = Atomics.load(words, REQUESTED)) {
    endWork(words);
    Atomics.wait(words, REQUESTED, requested);
  }
}

export function endWork(words: Int32Array): void {
  Atomics.store(words, BUSY, 0);
  Atomics.notify(words, BUSY);
}
