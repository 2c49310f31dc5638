import { Worker } from 'node:worker_threads';
import type { Parameters } from '../params/parameters.ts';
import type { SharedWeights } from '../params/weights-reader.ts';
import { stopAtExit } from './stop-at-exit.ts';
import type { SharedLink } from './thread-link.ts';

/**
 * Starts a thread that reads weights and is at one end of a link. It stops before the process exits; when it has ended, what it
 * was reading is let go of, and `ended` resolves.
 */
export function startLinkedThread(
  file: URL,
  name: string,
  { words, port }: SharedLink,
  params: Parameters,
  workerData: { readonly weights: SharedWeights },
): { readonly worker: Worker; readonly ended: Promise<void> } {
  const worker = new Worker(file, { workerData, transferList: [port], name });
  const unstop = stopAtExit(words);
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve())).then(() => {
    unstop();
    params.letGo(workerData.weights);
  });
  worker.unref();
  return { worker, ended };
}
