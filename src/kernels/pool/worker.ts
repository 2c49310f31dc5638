import { workerData } from 'node:worker_threads';
import { loadKernels, type SharedMemory } from '../kernels.ts';
import { JobQueue } from './job-queue.ts';

const { memory, queue } = workerData as { memory: SharedMemory; queue: number };
const { loops } = loadKernels(memory);
new JobQueue(memory, queue).work((kernel, call, begin, end) => loops[kernel]!.run(call, begin, end));
