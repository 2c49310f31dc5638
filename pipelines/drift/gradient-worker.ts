import { once } from 'node:events';
import { parentPort, workerData } from 'node:worker_threads';
import { mlpGradients } from '../../src/autodiff/mlp-gradients.ts';
import { mlpPlan } from '../../src/autodiff/mlp-plan.ts';
import { openTransport, type TransportSettings } from '../../src/cli/transport-settings.ts';
import { encodeEvent, epochBoundary, gradientBatch, type SharedWeights, type Weights, WeightsReader } from '../../src/index.ts';
import { readModel } from '../../src/inference/onnx/model.ts';
import { decodeExample } from './examples.ts';

/** What the thread is started with. */
export interface GradientWorkerData {
  readonly settings: TransportSettings;
  readonly model: string;
  readonly weights: SharedWeights;
  readonly examples: string;
  readonly gradients: string;
  readonly batchSize: number;
  readonly batchesPerEpoch: number;
}

const { settings, model, weights, examples, gradients, batchSize, batchesPerEpoch } = workerData as GradientWorkerData;

const worker = 'gradient-worker-1';
const transport = await openTransport(settings);
const reader = WeightsReader.attach(weights);
const dims = new Map(reader.places.map((place) => [place.name, place.dims]));
let current: Weights = {};
const perceptron = mlpGradients(mlpPlan(readModel(model)), {
  loss: 'bceWithLogits',
  params: { get: (name) => ({ data: current[name]! }) },
});

let x: number[] = [];
let y: number[] = [];
let sequence = 0;

/** Computes the gradients of one batch from one version of the weights, and publishes them. */
async function publishGradients(): Promise<void> {
  const feed = { x: { data: Float32Array.from(x), dims: [batchSize, x.length / batchSize] } };
  const batch = reader.read((live, base) => {
    current = live;
    const result = perceptron.run(feed, y);
    const tensors = Object.entries(result.gradients).map(([name, data]) => [name, { dims: dims.get(name)!, data }]);
    return gradientBatch({
      gradients: Object.fromEntries(tensors),
      worker,
      sequence,
      base,
      batchSize,
      epoch: Math.floor(sequence / batchesPerEpoch),
      loss: result.loss,
    });
  });
  x = [];
  y = [];
  sequence += 1;
  const records = [encodeEvent(batch)];
  if (sequence % batchesPerEpoch === 0) records.push(encodeEvent(epochBoundary(sequence / batchesPerEpoch), { source: worker }));
  await transport.produce(gradients, records);
}

const consumption = await transport.consume({
  topic: examples,
  from: 'beginning',
  async deliver(_topic, _partition, records) {
    for (const { value } of records) {
      const example = decodeExample(value!);
      x.push(...example.x);
      y.push(example.y);
      if (y.length === batchSize) await publishGradients();
    }
  },
  onError: (error) => {
    throw error;
  },
});
parentPort!.postMessage('ready');
await once(parentPort!, 'message');
await consumption.stop();
await transport.close();
reader.close();
parentPort!.close();
