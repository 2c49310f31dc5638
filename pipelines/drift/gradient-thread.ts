import { once } from 'node:events';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { GradientWorkerData } from './gradient-worker.ts';

/** A gradient worker on a thread of its own. */
export interface GradientThread {
  /** Rejects when the thread fails; never resolves. */
  readonly failed: Promise<never>;
  /** Ends it, once it has published what it was working on. */
  stop(): Promise<void>;
}

/** Starts a gradient worker and resolves when it takes examples. */
export async function startGradientWorker(data: GradientWorkerData): Promise<GradientThread> {
  const worker = new Worker(new URL(`./gradient-worker${extname(import.meta.url)}`, import.meta.url), { workerData: data });
  const failed = new Promise<never>((_, reject) => worker.once('error', reject));
  const exited = once(worker, 'exit');
  // Whoever races against a failure sees it; nobody else has to.
  failed.catch(() => {});
  exited.catch(() => {});
  await Promise.race([once(worker, 'message'), failed]);
  return {
    failed,
    async stop() {
      worker.postMessage('stop');
      await exited.catch(() => {});
    },
  };
}
