import { BUSY, REQUESTED, STOPPED } from './thread-link.ts';

/** A process that ends waits no longer for a thread. */
const LONGEST_WAIT_MS = 5000;

const open = new Set<Int32Array>();

/**
 * Has a thread stop before the process exits. Node ends threads wherever they are, and onnxruntime-node aborts the process where
 * that is within a run. Gives a function that takes it back.
 */
export function stopAtExit(words: Int32Array): () => void {
  if (open.size === 0) process.on('exit', stopAll);
  open.add(words);
  return () => {
    open.delete(words);
    if (open.size === 0) process.off('exit', stopAll);
  };
}

function stopAll(): void {
  for (const words of open) {
    Atomics.or(words, REQUESTED, STOPPED);
    Atomics.notify(words, REQUESTED);
  }
  const end = performance.now() + LONGEST_WAIT_MS;
  for (const words of open) Atomics.wait(words, BUSY, 1, Math.max(0, end - performance.now()));
}
