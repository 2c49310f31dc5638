import { encodeEvent, epochBoundary, gradientBatch, metricReport, type NewRecord, Parameters } from 'rxgrad';
import { below, pick, type Random } from './mutations.ts';

const lengths = { dense: 12, bias: 3 };
const ROWS = 10;
const WIDTH = 4;

/** A small model with a table. */
export function model(): Parameters {
  const values = (length: number, phase: number) => Array.from({ length }, (_, i) => Math.sin(i + phase));
  return Parameters.create({
    dense: { dims: [4, 3], data: values(12, 0) },
    bias: { dims: [3], data: values(3, 1) },
    table: { dims: [ROWS, WIDTH], data: values(ROWS * WIDTH, 2) },
  });
}

/** A record that fits the model: gradients in any type, dense and as rows; now and then an epoch or a metric. */
export function validRecord(sequence: number, random: Random): NewRecord {
  const kind = random();
  if (kind < 0.05) return encodeEvent(epochBoundary(sequence));
  if (kind < 0.1) return encodeEvent(metricReport({ name: 'loss', value: random() }), { sequence });
  const floats = (length: number) => Float32Array.from({ length }, () => 2 * random() - 1);
  const count = 1 + below(random, ROWS);
  const indices = Array.from({ length: count }, () => below(random, ROWS));
  const gradients = {
    dense: { dims: [4, 3], data: floats(lengths.dense) },
    ...(random() < 0.8 ? { bias: { dims: [3], data: floats(lengths.bias) } } : {}),
    ...(random() < 0.6 ? { table: { indices, values: floats(count * WIDTH), dims: [count, WIDTH] } } : {}),
  };
  const batch = gradientBatch({ gradients, worker: `w${sequence % 3}`, sequence, base: 0, batchSize: 8, loss: 0.5 });
  return encodeEvent(batch, { key: 'model', dtype: pick(random, ['F32', 'F16', 'BF16', 'I8'] as const) });
}
