import { encodeEvent, epochBoundary, type GradientInput, gradientBatch, type NewRecord } from '../src/index.ts';
import { Random } from './random.ts';

/** A log, and what has to come of it. */
export interface RecordedLog {
  readonly records: readonly NewRecord[];
  /** Batches that count: the version that they lead to. */
  readonly batches: number;
  /** The last sequence of each worker. */
  readonly sequences: ReadonlyMap<string, number>;
  /** Records that have to be left out. */
  readonly rejected: number;
}

/** The parameters of `test/models/mlp.onnx`. */
export const dims = { '0.weight': [12, 6], '0.bias': [12], '2.weight': [3, 12], '2.bias': [3] };
const workers = ['ada', 'blaise', 'carl'];
const batchesPerEpoch = 1000;
const remembered = 50;

/**
 * A log of so many batches of several workers, as a topic holds it: with epochs, records that came twice, and bad ones; dense
 * gradients and rows, F32 and F16. The last record is a batch that counts.
 */
export function recordedLog(seed: number, batches: number): RecordedLog {
  const random = new Random(seed);
  const records: NewRecord[] = [];
  const sequences = new Map<string, number>();
  let rejected = 0;
  const reject = (record: NewRecord): void => {
    rejected += 1;
    records.push(record);
  };
  const sent: NewRecord[] = [];
  for (let i = 0; i < batches; i++) {
    if (i > 0 && random.chance(0.03)) reject(sent[random.below(sent.length)]!);
    if (random.chance(0.02)) reject(badRecord(random));
    if (i > 0 && i % batchesPerEpoch === 0) {
      const epoch = encodeEvent(epochBoundary(i / batchesPerEpoch), { source: 'scheduler' });
      records.push(epoch);
      if (random.chance(0.5)) reject(epoch);
    }
    const worker = workers[random.below(workers.length)]!;
    // Numbers may be left out: each only has to be higher.
    const sequence = (sequences.get(worker) ?? -1) + 1 + random.below(2);
    sequences.set(worker, sequence);
    const batch = gradientBatch({ gradients: gradientsOf(random), worker, sequence, base: Math.max(0, i - 3), batchSize: 32 });
    const record = encodeEvent(batch, { key: 'model', dtype: random.chance(0.5) ? 'F32' : 'F16' });
    records.push(record);
    sent[i % remembered] = record;
  }
  return { records, batches, sequences, rejected };
}

function gradientsOf(random: Random): Record<string, GradientInput> {
  const gradients: Record<string, GradientInput> = {};
  if (random.chance(0.3)) {
    const indices = [...new Set([random.below(12), random.below(12), random.below(12)])];
    gradients['0.weight'] = { indices, values: elements(random, 6 * indices.length), dims: [indices.length, 6] };
  } else gradients['0.weight'] = dense(random, dims['0.weight']);
  for (const name of ['0.bias', '2.weight', '2.bias'] as const) {
    if (random.chance(0.8)) gradients[name] = dense(random, dims[name]);
  }
  return gradients;
}

/** Undecodable, of a wrong shape, of an unknown name, or not a number. It names no worker that others have. */
function badRecord(random: Random): NewRecord {
  const facts = { worker: 'bad', sequence: 0 };
  switch (random.below(4)) {
    case 0: {
      const { value, headers } = encodeEvent(gradientBatch({ gradients: { '0.bias': elements(random, 12) }, ...facts }));
      return { key: 'model', value: value!.subarray(0, random.below(value!.byteLength)), headers: headers! };
    }
    case 1:
      return encodeEvent(gradientBatch({ gradients: { '0.bias': elements(random, 13) }, ...facts }), { key: 'model' });
    case 2:
      return encodeEvent(gradientBatch({ gradients: { other: elements(random, 2) }, ...facts }), { key: 'model' });
    default: {
      const values = elements(random, 12);
      values[random.below(12)] = Number.NaN;
      return encodeEvent(gradientBatch({ gradients: { '0.bias': values }, ...facts }), { key: 'model' });
    }
  }
}

const dense = (random: Random, shape: readonly number[]): GradientInput => {
  return {
    dims: shape,
    data: elements(
      random,
      shape.reduce((size, dim) => size * dim, 1),
    ),
  };
};

const elements = (random: Random, length: number): Float32Array => Float32Array.from({ length }, () => random.element());
