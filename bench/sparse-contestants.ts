import MersenneTwister from 'mersenne-twister';
import { type GradientBatch, gradientBatch, type TrainingEvent } from '../src/events.ts';
import { Parameters } from '../src/params/parameters.ts';
import { tensorLayout } from '../src/payload.ts';
import { EventDecoder, encodeEvent } from '../src/sources/codec.ts';
import { writeSafetensors } from '../src/sources/safetensors.ts';
import { atOddOffset, batchesOf, gradientBytes } from './step-contestants.ts';

export const dims = [1_000_000, 16] as const;
export const touched = 1000;
// Together they touch more than caches hold.
export const setCount = 512;

const name = 'table';
const [rowCount, width] = dims;
const length = touched * width;

/** Zeros. */
export function table(): Parameters {
  return Parameters.create({ [name]: { dims: [...dims] } });
}

/** Sets of distinct row numbers in random order. The first row is in every second set: see peers/rows.py. */
export function randomSets(): number[][] {
  const random = new MersenneTwister(1);
  return Array.from({ length: setCount }, (_, set) => {
    const rows = new Set<number>(set % 2 === 0 ? [0] : []);
    while (rows.size < touched) rows.add(1 + Math.floor(random.random() * (rowCount - 1)));
    return [...rows];
  });
}

/** The values of set k: sin k, sin (k + 1), … */
function valuesOf(set: number): Float32Array {
  return new Float32Array(gradientBytes(setCount + length).buffer, 4 * set, length);
}

/** Makes batches of these sets, in turn. Each has a buffer of its own, as from a socket. */
export function madeBatches(sets: readonly (readonly number[])[]): () => () => GradientBatch {
  const messages = sets.map((indices, set) => {
    return gradientBatch({ gradients: { [name]: { indices, values: valuesOf(set) } } }).message;
  });
  const payloads = messages.map(({ payload }) => atOddOffset(Buffer.from(payload.buffer)));
  return () => batchesOf(messages[0]!.layout, payloads);
}

/** Records of these sets as a producer in Python sends them, row numbers in 64 bits, decoded in turn. */
export function decodedBatches(sets: readonly (readonly number[])[]): () => TrainingEvent {
  const begin = 8 * touched;
  const rows = { begin: 0, count: touched, dtype: 'I64' } as const;
  const layout = tensorLayout([{ name, dims: [touched, width], dtype: 'F32', begin, length, rows }], begin + 4 * length);
  const files = sets.map((indices, set) => {
    const payload = new Uint8Array(layout.byteLength);
    new BigInt64Array(payload.buffer, 0, touched).set(indices.map(BigInt));
    new Float32Array(payload.buffer, begin).set(valuesOf(set));
    return atOddOffset(writeSafetensors(layout, payload));
  });
  const facts = { worker: 'w', sequence: 0, base: 12_340, batchSize: 32, loss: 0.4321 };
  const { headers } = encodeEvent(gradientBatch({ gradients: {}, ...facts }));
  const decoder = new EventDecoder();
  let offset = 0;
  return () => {
    const value = files[offset % files.length]!;
    const record = { offset, key: null, value, headers: { ...headers, ce_id: String(offset) }, timestampMs: 0 };
    const position = { topic: 'bench', partition: 0, offset };
    offset += 1;
    return decoder.decode(record, { position, source: { done: () => {} } });
  };
}
