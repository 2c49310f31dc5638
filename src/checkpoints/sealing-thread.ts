import { parentPort } from 'node:worker_threads';
import { copyBytes } from '../kernels/kernels.ts';
import { seal } from './checkpoint-file.ts';
import type { SealingTask } from './sealer.ts';

parentPort!.on('message', (task: SealingTask | null) => {
  if (!task) {
    parentPort!.close();
    return;
  }
  const { file, parts } = task;
  const bytes = new Uint8Array(file);
  for (const { at, from } of parts) copyBytes(from, bytes, at);
  parentPort!.postMessage('copied');
  seal(bytes);
  parentPort!.postMessage('sealed');
});
