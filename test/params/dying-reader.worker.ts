import { parentPort, workerData } from 'node:worker_threads';
import { WeightsReader } from '../../src/params/weights-reader.ts';

// Is to be ended in the middle of a read.
const reader = WeightsReader.attach(workerData);
reader.read((_, version) => {
  parentPort!.postMessage(version);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
});
