import {
  acknowledge,
  addDecayedWeights,
  clipByGlobalNorm,
  clipByValue,
  encodeEvent,
  GradientBatch,
  type GradientInput,
  gradientBatch,
  Parameters,
  type Rejection,
  readShardPlan,
  sgd,
  shardGradients,
  shardParameters,
  staleness,
} from 'rxgrad';
import { firstValueFrom, type OperatorFunction, of } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { EventDecoder } from '../../src/sources/codec.ts';
import { SafetensorsReader } from '../../src/sources/safetensors.ts';
import { wave } from '../stages/gradients.ts';

const model = { emb: { dims: [10, 2] }, bias: { dims: [3] }, scale: { dims: [] } };
const parameters = Object.entries(model).map(([name, { dims }]) => ({ name, dims }));
const [, ...small] = parameters;
const rows = (from: number, to: number) => ({ name: `emb[${from}:${to}]`, dims: [to - from, 2], of: 'emb', rows: [from, to] });
const plan = readShardPlan({ parameters, shards: [[rows(0, 4), ...small], [rows(4, 10)]] });
const batchOf = (gradients: Record<string, GradientInput>, facts = {}) => gradientBatch({ gradients, ...facts });

/** A safetensors file of parts as others write it, read as a batch. */
function fileOf(parts: Record<string, [dtype: string, shape: number[], data: ArrayBufferView]>): GradientBatch {
  let end = 0;
  const header = Object.entries(parts).map(([name, [dtype, shape, { byteLength }]]) => {
    const begin = end;
    end += byteLength;
    return [name, { dtype, shape, data_offsets: [begin, end] }];
  });
  const json = Buffer.from(JSON.stringify(Object.fromEntries(header)));
  const length = Buffer.alloc(8);
  length.writeUInt32LE(json.byteLength);
  const data = Object.values(parts).map(([, , view]) => Buffer.from(view.buffer, view.byteOffset, view.byteLength));
  const read = new SafetensorsReader().read(Buffer.concat([length, json, ...data]));
  if (typeof read === 'function') throw read('file');
  return new GradientBatch({ ...read, facts: {}, delivery: null }, null);
}

describe('gradients of shards', () => {
  it('are those of their parts, with the facts of the whole and its norm', () => {
    const facts = { worker: 'w1', sequence: 7, base: 3, batchSize: 32, loss: 0.5 };
    const batch = batchOf({ emb: wave(20), bias: wave(3, 1) }, facts);
    const [first, second] = shardGradients(batch, plan);
    expect(first!.gradients).toEqual({ 'emb[0:4]': wave(20).slice(0, 8), bias: wave(3, 1) });
    expect(second!.gradients).toEqual({ 'emb[4:10]': wave(20).slice(8) });
    for (const part of [first!, second!]) expect(part.facts).toEqual({ ...facts, norm: batch.norm() });
    expect(second!.message.layout.tensors[0]!.dims).toEqual([6, 2]);
  });

  it('are there for every shard', () => {
    const [first, second] = shardGradients(batchOf({ bias: Float32Array.of(3, 4, 0) }), plan);
    expect(first!.gradients).toEqual({ bias: Float32Array.of(3, 4, 0) });
    expect([second!.gradients, second!.rows, second!.facts.norm]).toEqual([{}, {}, 5]);
  });

  it('have the norm that the producer tells', () => {
    const norm = Math.fround(wave(20).reduce((sum, g) => sum + g * g, 0) ** 0.5);
    const parts = shardGradients(batchOf({ emb: wave(20) }, { norm }), plan);
    expect(parts.map(({ facts }) => facts.norm)).toEqual([norm, norm]);
  });

  it('are rows by their numbers in the part, in their order, also where there are none', () => {
    const values = wave(10);
    const [first, second] = shardGradients(batchOf({ emb: { indices: [9, 0, 4, 0, 3], values } }), plan);
    expect(first!.message.layout.tensors[0]!.rows).toMatchObject({ count: 3 });
    expect(first!.rows['emb[0:4]']!.indices).toEqual(Int32Array.of(0, 3));
    expect(first!.rows['emb[0:4]']!.values.slice(2)).toEqual(values.slice(8));
    expect(second!.rows).toEqual({
      'emb[4:10]': { indices: Int32Array.of(5, 0), values: Float32Array.of(...values.slice(0, 2), ...values.slice(4, 6)) },
    });
    const [none] = shardGradients(batchOf({ emb: { indices: [7], values: wave(2) } }), plan);
    expect(none!.rows).toEqual({ 'emb[0:4]': { indices: new Int32Array(), values: new Float32Array() } });
  });

  it('stay as they are written', () => {
    const bytes = Int8Array.from({ length: 20 }, (_, i) => i - 10);
    const halves = Uint16Array.from({ length: 3 }, (_, i) => 0x3c00 + i);
    const factors = Float32Array.from({ length: 10 }, (_, i) => 0.1 * (i + 1));
    const batch = fileOf({
      'emb.scale': ['F32', [10], factors],
      emb: ['I8', [10, 2], bytes],
      bias: ['F16', [3], halves],
      scale: ['BF16', [], Uint16Array.of(0x3f81)],
    });
    const [first, second] = shardGradients(batch, plan);
    expect(first!.message.layout.tensors.map(({ name, dtype }) => [name, dtype])).toEqual([
      ['bias', 'F16'],
      ['scale', 'BF16'],
      ['emb[0:4]', 'I8'],
    ]);
    const { emb, ...rest } = batch.gradients;
    expect(first!.gradients).toEqual({ ...rest, 'emb[0:4]': emb!.slice(0, 8) });
    expect(second!.gradients).toEqual({ 'emb[4:10]': emb!.slice(8) });
    expect(second!.message.layout.tensors[0]!.scale!.length).toBe(6);
    expect(first!.facts.norm).toBe(batch.norm());
  });

  it.each([
    ['one factor', Float32Array.of(0.5)],
    ['a factor for each row', Float32Array.of(0.5, 2, 3)],
  ])('stay rows in I8 with %s, numbered in 64 bits', (_, factors) => {
    const batch = fileOf({
      'emb.indices': ['I64', [3], BigInt64Array.of(8n, 1n, 8n)],
      'emb.scale': ['F32', [factors.length], factors],
      'emb.values': ['I8', [3, 2], Int8Array.of(1, 2, 3, 4, 5, 6)],
    });
    const [first, second] = shardGradients(batch, plan);
    const { indices, values } = batch.rows.emb!;
    expect([...indices]).toEqual([8, 1]);
    expect(first!.rows['emb[0:4]']).toEqual({ indices: Int32Array.of(1), values: values.slice(2) });
    expect(second!.rows['emb[4:10]']).toEqual({ indices: Int32Array.of(4), values: values.slice(0, 2) });
  });

  it('have behind them what was asked for before they were cut', async () => {
    const batch = batchOf({ emb: wave(20), bias: wave(3, 1) }, { norm: 50 });
    const params = Parameters.create(model);
    const through = async (stage: OperatorFunction<never, unknown>) =>
      (await firstValueFrom((of(batch) as never as ReturnType<typeof of<never>>).pipe(stage))) as GradientBatch;
    for (const stage of [clipByGlobalNorm(1), clipByValue(0.1), addDecayedWeights(0.1, params)]) {
      const asked = await through(stage as never);
      const [first, second] = shardGradients(asked, plan);
      const { emb, bias } = asked.gradients;
      expect(first!.gradients).toEqual({ 'emb[0:4]': emb!.slice(0, 8), bias });
      expect(second!.gradients).toEqual({ 'emb[4:10]': emb!.slice(8) });
      expect(second!.facts.norm).toBe(asked.norm());
    }
    const dropped = await through(staleness({ type: 'drop', above: 2 }) as never);
    expect(shardGradients(dropped, plan)[0]!.pending!.operation.op).toBe('staleness');
    const scaled = await through(staleness({ type: 'scale' }) as never);
    expect(() => shardGradients(scaled, plan)).toThrow(/^Gradients behind staleness\({ type: 'scale' }\) cannot be read/);
    const decayed = await through(addDecayedWeights(0.1) as never);
    expect(() => shardGradients(decayed, plan)).toThrow(/^Gradients behind addDecayedWeights\(0.1\) cannot be read/);
  });

  it('have no place in a log', () => {
    const done: unknown[] = [];
    const delivery = { position: { topic: 't', partition: 0, offset: 5 }, source: { done: (at: unknown) => done.push(at) } };
    const batch = new GradientBatch({ ...batchOf({ bias: wave(3) }).message, delivery }, null);
    for (const part of shardGradients(batch, plan)) acknowledge(part);
    expect(done).toEqual([]);
  });

  it.each([
    [
      'an unknown parameter',
      batchOf({ bias: wave(3), w: wave(1) }),
      'expected parameters of the model (emb, bias, scale), got "w"',
    ],
    ['other dims', batchOf({ emb: { dims: [2, 10], data: wave(20) } }), 'expected "emb" with dims [10,2], got [2,10]'],
    ['another length', batchOf({ emb: wave(19) }), 'expected "emb" with dims [10,2], got [19]'],
    [
      'wider rows',
      batchOf({ emb: { indices: [1], values: wave(3) } }),
      'expected "emb" with dims [rows,2], got [3 values in 1 rows]',
    ],
    ['rows of a scalar', batchOf({ scale: { indices: [0], values: wave(1) } }), 'expected "scale" with dims [no rows]'],
    [
      'a row beyond the last',
      batchOf({ emb: { indices: [1, 10], values: wave(4) } }),
      'row numbers of "emb" from 0 to 9, got 10',
    ],
    [
      'a row in 64 bits',
      fileOf({ 'emb.indices': ['I64', [1], BigInt64Array.of(2n ** 32n)], 'emb.values': ['F32', [1, 2], wave(2)] }),
      'from 0 to 9, got 4294967296',
    ],
    [
      'a row below 0',
      fileOf({ 'emb.indices': ['I32', [1], Int32Array.of(-1)], 'emb.values': ['F32', [1, 2], wave(2)] }),
      'from 0 to 9, got -1',
    ],
    [
      'no tensor',
      batchOf({}),
      'expected at least one tensor in a gradient batch, or the norm of those in other shards, got neither',
    ],
    [
      'a norm that it cannot have',
      batchOf({ bias: Float32Array.of(3, 4, 0) }, { norm: 4 }),
      'expected a finite number of at least 5',
    ],
  ])('with %s are refused before they are sent', (_, batch, message) => {
    expect(() => shardGradients(batch, plan)).toThrow(message);
  });

  it.each([
    ['in memory', false],
    ['over the wire', true],
  ])('that are not finite in one shard are rejected by all, %s', (_, wire) => {
    for (const facts of [{}, { norm: 3 }]) {
      const parts = shardGradients(batchOf({ emb: wave(20), bias: Float32Array.of(1, Number.NaN, 1) }, facts), plan);
      for (const [shard, part] of parts.entries()) {
        const { value, headers } = encodeEvent(part);
        const delivery = { position: { topic: 't', partition: shard, offset: 0 }, source: { done: () => {} } };
        const sent = wire
          ? new EventDecoder().decode({ value, headers: headers!, key: null, offset: 0, timestampMs: 0 }, delivery)
          : part;
        const rejections: Rejection[] = [];
        const params = shardParameters(plan, shard, Parameters.create(model));
        of(sent)
          .pipe(sgd(params, { rejections: { next: (rejected) => rejections.push(rejected) } }))
          .subscribe();
        expect(rejections.map(({ reason }) => reason)).toEqual([wire ? 'undecodable' : shard === 0 ? 'notFinite' : 'wrongNorm']);
        expect(params.version).toBe(0);
      }
    }
  });
});
