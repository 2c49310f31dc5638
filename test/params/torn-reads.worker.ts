import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { WeightsReader } from '../../src/params/weights-reader.ts';

const port = parentPort!;
const reader = WeightsReader.attach(workerData);
const report = { reads: 0, torn: 0, backwards: 0, versions: 0 };
let last = -1;
port.postMessage('ready');
while (!receiveMessageOnPort(port)) {
  reader.read((weights, version) => {
    report.reads += 1;
    if (version < last) report.backwards += 1;
    if (version !== last) report.versions += 1;
    last = version;
    for (const values of Object.values(weights)) {
      for (const value of values) if (value !== version) report.torn += 1;
    }
  });
}
reader.close();
port.postMessage(report);
