// A thread of its own: appends the time at which it was told to.
import { parentPort, workerData } from 'node:worker_threads';
import { embeddedLog } from '../../src/sources/embedded-log.ts';

const { path, topic }: { path: string; topic: string } = workerData;
const log = embeddedLog(path);
parentPort!.on('message', async () => {
  const startMs = performance.timeOrigin + performance.now();
  await log.produce(topic, [{ value: Buffer.from(String(startMs)) }]);
});
parentPort!.postMessage('ready');
