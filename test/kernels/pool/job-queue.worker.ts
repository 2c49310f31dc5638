import { workerData } from 'node:worker_threads';
import { JobQueue } from '../../../src/kernels/pool/job-queue.ts';

const { memory, queue, counts } = workerData;
const done = new Int32Array(memory.buffer, counts);
new JobQueue(memory, queue).work((_kernel, _call, begin) => Atomics.add(done, begin, 1));
